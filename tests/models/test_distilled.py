"""Models with guidance baked in are told before they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfgs.models.catalog import BACKENDS
from rfgs.models.distilled import KNOWN, is_distilled, remark


def test_names() -> None:
    assert {backend.name for backend in BACKENDS if is_distilled(backend.name)} == {
        "flux-dev",
        "flux-schnell",
    }
    assert all(is_distilled(hub_id) for hub_id in KNOWN)
    others = ("black-forest-labs/FLUX.2-klein-base-4B", "Tongyi-MAI/Z-Image", "somebody/elses-model")
    assert not any(is_distilled(hub_id) for hub_id in others)


def test_copies_are_told_by_their_folder(tmp_path: Path) -> None:
    for folder, expected in (
        ("z-image-turbo", True),
        ("models--stabilityai--stable-diffusion-3.5-large-turbo/snapshots/12", True),
        ("Z-Image", False),
        ("models--Tongyi-MAI--Z-Image/snapshots/12", False),
    ):
        (tmp_path / folder).mkdir(parents=True)
        assert is_distilled(str(tmp_path / folder)) == expected


@pytest.mark.parametrize(
    ("file", "key"), [("model_index.json", "is_distilled"), ("transformer/config.json", "guidance_embeds")]
)
def test_files_say_it(file: str, key: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for value in (True, False, None):
        (tmp_path / file).write_text(json.dumps({key: value}))
        assert is_distilled(str(tmp_path)) == (value is True)
        assert is_distilled(f"instaflow:{tmp_path}") == (value is True)


def test_a_high_scale_is_remarked_on_in_a_line() -> None:
    assert remark("flux-schnell", 50.0) == (
        "flux-schnell was distilled, with guidance baked in: a scale of 50 comes on top of that and may spoil colors and "
        "shapes; 1 is what it was made for"
    )
    assert remark("flux-schnell", None) == remark("flux-schnell", 1.5) == remark("flux2-klein", 50.0) == ""
