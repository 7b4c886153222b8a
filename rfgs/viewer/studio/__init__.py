"""The studio: one page from a prompt to an object. Each run is a process of its own; what there is, is in the folders."""

from rfgs.viewer.studio.studio import Studio

__all__ = ["Studio"]
