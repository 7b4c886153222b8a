"""What a 2D run collects on its way, and writes at its end: image, strip of progress, curve, record."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from rfgs.distill.clock import Clock
from rfgs.distill.gradients import Skipped
from rfgs.errors import Unwritten
from rfgs.export.results import Results
from rfgs.export.writing import atomic
from rfgs.flat.curves import write_curve
from rfgs.flat.images import save_image, side_by_side
from rfgs.flat.jobs import EditJob, ImageJob, InvertJob
from rfgs.guidance import Counted
from rfgs.models import machine, memory, weighing
from rfgs.priors import Prior
from rfgs.priors.base import is_small
from rfgs.priors.engine import used
from rfgs.priors.fit import embed_and_release, fit_latents, fit_views
from rfgs.priors.phases import Say

LOOKS = 6
"""Pictures in the strip of progress."""

Report = Callable[[int, int, str], None]
"""Gets the number of steps done, of all steps, and what is being done."""


@dataclass(frozen=True)
class ImageResult:
    """What a run came to."""

    image: Tensor
    """[B, 3, H, W]: all particles, the reconstruction, or the edit."""
    paths: list[Path]
    record: dict[str, Any]
    """The content of run.json."""


class Collected:
    """What a run's folder gets: looks at the way, one curve, seconds of each part, metrics."""

    def __init__(
        self,
        job: ImageJob | InvertJob | EditJob,
        folder: Path,
        report: Report = lambda done, total, what: None,
        stop: Callable[[], bool] = lambda: False,
        say: Say = warnings.warn,
    ) -> None:
        self.folder = folder
        self.job, self.report, self.stop, self.say = job, report, stop, say
        self.looks: list[Tensor] = []
        self.curve: list[float] = []
        self.settings: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.counted: Counted | None = None
        self.fitted: str | None = None
        self.skipped = Skipped(torch.device(job.device))
        clock = Clock()
        self.seconds, self.lap = clock.seconds, clock.lap

    def counting(self, prior: Prior) -> Prior:
        """The prior, from now on with its network's evaluations counted."""
        self.counted = Counted(prior)
        return cast(Prior, self.counted)

    def fit(self, prior: Prior, prompts: list[str], *, images: int, side: int, encodes: bool) -> None:
        """Frees the text encoders of a big model, and fits the run into memory; the record says how.

        Args:
            encodes: whether the gradient goes through the image encoder.
        """
        if is_small(prior):
            return
        embed_and_release(prior, prompts)
        known, job = weighing.footprint(self.job.model), self.job
        load = memory.Load(offload=job.offload, full=job.dtype == "float32")
        if encodes:
            reserve, sliced = (
                memory.beside_the_encoder(known, views=images, slice_views=one_by_one, size=side, load=load)
                if known
                else 0
                for one_by_one in (False, True)
            )
            self.fitted = fit_views(prior, views=images, size=side, reserve=reserve, reserve_sliced=sliced)
        else:
            grain = 2 if load.full else 1
            sample = int(known.sample * grain * (side / 512) ** 2) if known else 0
            self.fitted = fit_latents(prior, images=images, size=side, sample=sample)
        self.say(f"first step: {images} image{'s' * (images > 1)} of {side} pixels")

    def step(self, index: int, total: int, what: str, value: Tensor, look: Callable[[], Tensor]) -> None:
        """Notes a step."""
        self.curve.append(float(value))
        due = {math.ceil(k * total / LOOKS) for k in range(1, LOOKS + 1)}
        if index in due:
            self.looks.append(look()[0].cpu())
        self.report(index, total, what)

    def write(
        self,
        image: Tensor,
        title: str,
        *,
        before: list[Tensor],
        window: int,
        extra: dict[str, bytes] | None = None,
    ) -> ImageResult:
        """Writes what there is; `extra` has other files by name. Where it went, if not into the folder, is said."""
        image, results = image.cpu(), Results(self.folder)
        results.write("image.png", lambda path: save_image(side_by_side(list(image)), path))
        results.write("strip.png", lambda path: save_image(side_by_side([*before, *self.looks]), path))
        results.write("curve.png", lambda path: write_curve(path, self.curve, title, window=window))
        for name, content in (extra or {}).items():
            results.write(name, functools.partial(_write, content))
        self.lap("files")
        record = {
            "command": {ImageJob: "image", InvertJob: "invert", EditJob: "edit"}[type(self.job)],
            "job": asdict(self.job),
            "settings": self.settings,
            "dtype": str(getattr(self.counted, "dtype", "")).removeprefix("torch."),
            "engine": used(self.counted),
            **({"memory": self.fitted} if self.fitted else {}),
            "metrics": self.metrics,
            "skipped": int(self.skipped.count),
            "curve": {"title": title, "values": self.curve},
            "seconds": self.seconds,
            "evaluations": self.counted.take() if self.counted else {},
            "versions": machine.versions(),
            "git_commit": machine.git_commit(),
            "cpu": machine.cpu_model(),
            "gpu": torch.cuda.get_device_name() if self.job.device == "cuda" else None,
            "peak_memory": machine.peak_memory(),
        }
        # JSON has no infinity: an image that came back exactly has no finite PSNR.
        text = json.dumps(_plain(record), indent=2, default=str, allow_nan=False)
        results.write("run.json", functools.partial(_write, (text + "\n").encode()))
        elsewhere = results.line()
        if "image.png" in results.lost:
            raise Unwritten(self.folder / "image.png", results.problem)
        if elsewhere:
            self.say(elsewhere)
        return ImageResult(image, results.paths, record)


def _write(content: bytes, path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
