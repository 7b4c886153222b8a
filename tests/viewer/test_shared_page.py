"""The page in one file, opened from disk as its reader does, against our own renderer."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rfgs.errors import UserError
from rfgs.render import render
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, orbit
from rfgs.splats import Splats, ball
from rfgs.viewer import share
from rfgs.viewer.aim import FIRST_AZIMUTH, FIRST_ELEVATION
from rfgs.viewer.stage import Look
from tests.viewer.chromium import PATIENCE, Chromium


def overlapping() -> Splats:
    """Forty colored balls behind and before one another, each nearly opaque."""
    generator = torch.Generator().manual_seed(0)
    return ball(40, 0.6, generator=generator, opacity=0.95, scale=0.15, color_spread=0.6)


@pytest.mark.parametrize(("width", "height"), [(960, 600), (390, 844)])
def test_the_whole_is_shown_and_sorted_in_a_page_from_disk(
    browser: Chromium, tmp_path: Path, width: int, height: int
) -> None:
    splats = overlapping()
    share.write_page(splats, tmp_path / "a page.html", comments=["prompt: forty balls & more", "seed: 7"])
    # A window that is higher than wide is looked at from farther away, so that its width holds the whole.
    distance = DEFAULT_DISTANCE * max(1, height / width)
    camera = orbit(FIRST_AZIMUTH, FIRST_ELEVATION, distance, DEFAULT_FOV, width, height)
    background = torch.tensor(Look().background) / 255
    expected = render(splats, camera, background).rgb[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    # viser's controls at the upper edge are no part of the picture.
    part = slice(height // 5, -height // 5), slice(width // 20, -width // 20)
    edges = expected[:, [0, -1]] - np.array(Look().background)
    assert np.abs(edges).max() < 12  # Nothing of it is cut off.
    browser.resize(width, height)
    try:
        browser.open((tmp_path / "a page.html").as_uri())
        assert browser.evaluate("document.title") == "forty balls & more"
        browser.wait_for("!!document.querySelector('canvas')")
        deadline, error = time.monotonic() + PATIENCE / 3, 255.0
        while error > 4 and time.monotonic() < deadline:  # Splats fade in.
            time.sleep(0.3)
            seen = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB")).astype(float)
            error = float(np.sqrt(np.square(seen - expected)[part].mean()))
    finally:
        browser.resize(960, 600)
    # In any order it is 40 and more.
    assert error <= 4, f"root mean square of {error:.1f} of 255"


def test_the_prompt_is_text_in_a_page() -> None:
    page = share.share_page(overlapping(), title="</title><b>", comments=['prompt: "</title><b>'])
    assert "</title><b>" not in page and 'content="prompt: &quot;&lt;/title&gt;' in page
    assert page.index("WeakMap") < page.index("data-p=")  # Before viser's own scripts.


def test_another_viser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "serialized", lambda server: "<title>Other</title>")
    with pytest.raises(UserError, match="makes another page"):
        share.share_page(overlapping())
