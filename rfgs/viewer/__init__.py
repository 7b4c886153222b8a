"""The viewer: live pages of runs that can be watched and steered, and pages of files."""

from rfgs.viewer.exhibits import FileViewer, view, view_files
from rfgs.viewer.live import Viewer
from rfgs.viewer.share import share_page
from rfgs.viewer.steer_panel import Change

__all__ = ["Change", "FileViewer", "Viewer", "share_page", "view", "view_files"]
