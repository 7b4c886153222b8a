"""What a graphics card makes of rfgs, in ten minutes at most; see docs/hardware.md.

    python bench/hardware.py                          # on the GPU; writes a JSON file, and the tables of docs/hardware.md
    python bench/hardware.py --device cpu --small     # the same code without a GPU, in miniature; writes the JSON file alone

First what is worth most: `rfgs doctor --test`, steps of SD3, SD3.5 medium, FLUX and others built with random weights (speed,
peak memory beside the estimate, where the time goes), the rasterizer beside the memory's bandwidth, and the operations of a
step. What there is no time for is named. No network is needed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from program import RESULTS, start

from rfgs.errors import UserError
from rfgs.export.writing import atomic
from rfgs.models.cuda import cuda_problem, gsplat_problem

PAGE = Path(__file__).parent.parent / "docs" / "hardware.md"


@dataclass
class Settings:
    """What to measure."""

    device: Literal["cuda", "cpu"] = "cuda"
    small: bool = False
    """Networks of some thousand weights and small pictures, to try the program itself."""
    seconds: float = 570.0
    """Time for all of it, the compilation of gsplat's kernels included where that was not done."""
    output: Path = RESULTS / "hardware.json"
    page: Path | None = None
    """The page whose tables are written; docs/hardware.md on a GPU, none with --small or on a CPU."""


def main(settings: Settings) -> None:
    """Measures, prints the tables and writes them."""
    problem = (cuda_problem() or gsplat_problem()) if settings.device == "cuda" else None
    if problem:
        raise UserError(f"--device cuda: {problem}, or use --device cpu --small")
    from rfgs.measure.hardware import measure
    from rfgs.measure.hardware_page import filled, tables

    def keep(found: dict) -> None:
        settings.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic(settings.output) as path:
            path.write_text(json.dumps(found, indent=1))

    found = measure(settings.device, small=settings.small, seconds=settings.seconds, keep=keep)
    print(tables(found))
    page = settings.page or (PAGE if settings.device == "cuda" and not settings.small else None)
    if page is not None:
        with atomic(page) as path:
            path.write_text(filled(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    start(main, Settings, __doc__)
