"""The live viewer: a page that shows the splats while they form."""

from rfgs.viewer.live import Viewer

__all__ = ["Viewer"]
