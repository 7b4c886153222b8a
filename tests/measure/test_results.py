"""Results are added to where the settings are the same, and only there; sheets have each picture in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rfgs.errors import UserError
from rfgs.measure.results import fingerprint, open_results, save_results, write_sheet


def test_results_are_gone_on_with_under_the_same_settings_only(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "a.json"
    results = open_results(file, {"steps": 3, "sizes": (1, 2)})
    results["found"] = 7
    save_results(file, results)
    assert open_results(file, {"steps": 3, "sizes": (1, 2)})["found"] == 7
    with pytest.raises(UserError, match=r"other settings \(steps, seed\)"):
        open_results(file, {"steps": 4, "sizes": (1, 2), "seed": 0})
    file.write_text("[1]")
    with pytest.raises(UserError, match="holds no results"):
        open_results(file, {})


def test_weights_are_told_from_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights"):
        fingerprint(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"1")
    (tmp_path / "read.me").write_bytes(b"1")
    one = fingerprint(tmp_path)
    (tmp_path / "read.me").write_bytes(b"2")
    assert fingerprint(tmp_path) == one
    (tmp_path / "a.safetensors").write_bytes(b"2")
    assert fingerprint(tmp_path) != one


def test_a_sheet_has_each_picture_in_its_place(tmp_path: Path) -> None:
    red, blue = torch.zeros(3, 8, 8), torch.zeros(3, 16, 16)
    red[0], blue[2] = 1, 1
    write_sheet(tmp_path / "a.png", [("", []), ("", [red]), ("", [red, blue])], tile=20)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (14 + 2 * 38, 44, 3)
    assert (pixels[:14] == 255).all()
    pixels = pixels[14:]
    assert (pixels[14:34, :20] == (255, 0, 0)).all() and (pixels[14:34, 20:] == 255).all()
    assert (pixels[52:72, :20] == (255, 0, 0)).all() and (pixels[52:72, 24:] == (0, 0, 255)).all()
