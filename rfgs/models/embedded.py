"""Where the files that come with rfgs lie: most in the package itself, large ones that fewer people need in one beside it."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

BESIDE = ("scorer", "tiny-instaflow", "tiny-sd")
"""The folders of `assets/` that the distribution rfgs-models holds (`assets/pyproject.toml`). A checkout has all of them."""


def folder(name: str) -> Path:
    """The folder `name` of `assets/`, whether or not it is there."""
    own = Path(str(files("rfgs.assets"))) / name
    if not own.exists() and find_spec("rfgs_models"):
        return Path(str(files("rfgs_models"))) / name
    return own


def remedy(name: str) -> str:
    """How to get the files of the folder `name` of `assets/` where they are missing or damaged."""
    return "install them with `pip install 'rfgs[models]'`" if name in BESIDE else "install rfgs again"
