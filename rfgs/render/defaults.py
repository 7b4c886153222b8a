"""Where cameras stand if nothing else is said. No torch: a page's cameras do not wait for it."""

from __future__ import annotations

DEFAULT_FOV = 40.0
"""Degrees."""
DEFAULT_DISTANCE = 3.2
"""World units; at the default field of view, a unit ball at the target fits the image with a small margin."""
DEFAULT_ELEVATIONS = (-10.0, 80.0)
"""Degrees."""
