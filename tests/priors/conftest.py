"""Makes the random-weight models importable by name, and keeps their embeddings out of the user's cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.priors import layouts


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RFGS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="session")
def z_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.z_image(tmp_path_factory.mktemp("z-image"))
