"""Where on disk is kept what is made once: embeddings, converted networks, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """RFGS_CACHE, or rfgs in the user's folder for caches."""
    own = os.environ.get("RFGS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rfgs"
