"""The viewer: live pages of runs that can be watched and steered, and pages of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rfgs.viewer.live import Viewer
from rfgs.viewer.steering import Change

if TYPE_CHECKING:
    from rfgs.viewer.exhibits import FileViewer, view, view_files
    from rfgs.viewer.share import share_page

__all__ = ["Change", "FileViewer", "Viewer", "share_page", "view", "view_files"]


def __getattr__(name: str) -> Any:
    # These need torch. A run's page does not, and is there before it.
    if name == "share_page":
        from rfgs.viewer import share

        return share.share_page
    if name in __all__:
        from rfgs.viewer import exhibits

        return getattr(exhibits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
