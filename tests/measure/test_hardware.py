"""The measurement of a graphics card, tried on the CPU in miniature: every part gives its rows, and the page its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.measure import hardware, hardware_page
from rfgs.measure.cases import Case
from rfgs.measure.hardware import Watch

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"
ABOUT = {
    "cpu": "a CPU",
    "gpu": "H100",
    "torch_cuda": "13.0",
    "driver_cuda": "13.1",
    "versions": {"torch": "2.13.0", "gsplat": "1.5.3", "diffusers": "0.35"},
}


def test_the_usual_cases_come_first_and_none_twice() -> None:
    found = hardware.cases(small=False)
    assert found[0] == Case("sd3", "rfds-rev", 4, 512) and len(set(found)) == len(found)
    flows = {"sd3", "sd35-medium", "flux-dev", "flux2-klein", "z-image"}
    assert {case.model for case in found[:7]} == flows | {"instaflow", "sd15"}
    for name in flows:
        every = {
            (case.views, case.size) for case in found if case.model == name and case.guidance == "rfds-rev"
        }
        assert every >= {(views, size) for views in (1, 4, 8) for size in (256, 512)}
    assert {case.guidance for case in found} == {"rfds", "rfds-rev", "rfds-vsd", "sds", "vsd"}


@pytest.mark.parametrize("model", ["sd3", "flux2-klein", "z-image"])
def test_a_case_is_measured(model: str) -> None:
    row = hardware.steps_of(Case(model, "rfds", 1, 32), "cpu", small=True, left=1.0)
    assert row["steps_a_second"] > 0 and row["peak"] and row["ms"].keys() == set(hardware_page.PARTS)
    assert hardware.loop.Clock is not hardware._WaitingClock


def test_the_rasterizer_is_measured() -> None:
    row = hardware.rasterizer_of(100, 16, "cpu", hardware.bandwidth_of("cpu", small=True))
    assert row["forward_ms"] > 0 and row["backward_ms"] > 0 and 0 < row["percent_of_bandwidth"] < 100


def measured(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[dict[str, Any], int]:
    """With everything that takes long replaced."""

    def steps(case: Case, device: str, **_: Any) -> dict[str, Any]:
        if case.model == "instaflow":
            raise RuntimeError("CUDA out of memory\nmore")
        ms = {part: 1.0 for part in hardware_page.PARTS}
        return {"label": case.label, "steps_a_second": 2.0, "peak": 2**31, "estimate": 2**32, "ms": ms}

    monkeypatch.setattr(hardware, "steps_of", steps)
    monkeypatch.setattr(hardware, "about_machine", lambda device: ABOUT)
    monkeypatch.setattr(
        hardware, "_self_test", lambda *_: [{"name": "kernels", "works": True, "detail": "gsplat"}]
    )
    monkeypatch.setattr(
        hardware, "kernels_of", lambda *_, **__: [{"label": "a|b", "calls": 3, "ms": 1.0, "percent": 50.0}]
    )
    monkeypatch.setattr(hardware, "bandwidth_of", lambda *_, **__: 1e12)
    monkeypatch.setattr(
        hardware,
        "rasterizer_of",
        lambda n, *_: {"label": f"{n}", "forward_ms": 1, "backward_ms": 2, "percent_of_bandwidth": 3},
    )
    kept: list[str] = []
    found = hardware.measure(
        "cpu", small=True, seconds=seconds, keep=lambda found: kept.append(json.dumps(found))
    )
    assert json.loads(kept[-1]) == found
    return found, len(kept)


def test_all_is_kept_piece_by_piece_and_one_that_breaks_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = hardware.cases(small=True)[:6]
    monkeypatch.setattr(hardware, "cases", lambda small: cases)
    found, kept = measured(monkeypatch, 1000.0)
    assert found["not reached"] == [] and len(found["steps"]) == len(cases)
    assert kept == 1 + len(cases) + 2 + 1
    broken = [row for row in found["steps"] if "error" in row]
    assert [row["error"] for row in broken] == ["RuntimeError: CUDA out of memory"]
    page = hardware_page.filled(PAGE.read_text(encoding="utf-8"), found)
    assert (
        "| sd3, rfds-rev, 4 x 64 px | 2.00 | 2.0 | 4.0 | 1.0 |" in page
        and "On H100, with torch 2.13.0" in page
    )
    assert "RuntimeError: CUDA out of memory" in page and "`a/b`" in page
    again = hardware_page.filled(page, found)
    assert again == page, "it replaces what it wrote before"
    with pytest.raises(UserError, match="no <!-- measured"):
        hardware_page.filled("a page", found)


def test_what_there_is_no_time_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = measured(monkeypatch, 0.0)
    assert found["steps"] == [] and "steps: sd3, rfds-rev, 4 x 64 px" in found["not reached"]
    assert "Not reached in the time that there was: self-test: doctor --test;" in hardware_page.tables(found)


def test_each_part_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(100.0)
    monkeypatch.setattr(watch, "spent", lambda: 50.0)
    assert [round(watch.left(part)) for part in hardware.SHARES] == [-25, 35, 45, 50]
