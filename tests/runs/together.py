"""What one of several processes does in the tests of `rfgs.guidance.share`: steps, and whole runs. Started as a program.

RANK=0 WORLD_SIZE=2 ... python -m tests.runs.together FOLDER
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rfgs.distill import DistillConfig, distill
from rfgs.guidance import share as module
from rfgs.guidance.share import Share
from rfgs.runs import generate as runs
from rfgs.runs import recorder
from rfgs.runs.job import Job
from rfgs.splats import Splats, ball
from tests.guidance.networks import NetworkPrior

CONFIG = DistillConfig(
    guidance="rfds-rev",
    steps=6,
    resolution=32,
    views_per_step=5,  # Which two processes cannot share evenly.
    guidance_scale=3.0,
    background="color",
    densify="quantile",
    densify_every=3,
    densify_range=(0.0, 1.0),
    max_splats=80,
)
CASES = {
    "grown": CONFIG,
    "moved": replace(CONFIG, densify="mcmc"),
    "learned": replace(CONFIG, guidance="rfds-vsd", steps=2, densify="none", own={"lr_lora": 1e-2}),
    "pushed": replace(CONFIG, guidance="rfds", steps=2, perp_neg=True, densify="none"),
}


def start() -> Splats:
    """Needles, whose rotation matters too."""
    generator = torch.Generator().manual_seed(9)
    splats = ball(60, 0.5, generator=generator, opacity=0.5)
    splats.log_scales = splats.log_scales + 0.5 * torch.randn(60, 3, generator=generator)
    splats.quats = torch.randn(60, 4, generator=generator)
    return splats


def steps(case: str, share: Share) -> list[dict[str, Any]]:
    """What each step leaves behind: its state, and what it says of itself."""
    prior: Any = NetworkPrior("sd3")
    generator = torch.Generator().manual_seed(1)
    return [
        {
            **step.state(),
            "loss": step.loss,
            "evaluations": step.evaluations,
            "views": len(step.frames),
        }
        for step in distill("a cat", prior, start(), replace(CASES[case]), generator=generator, share=share)
    ]


JOB = Job(
    "a red cube",
    guidance="rfds",
    settings={"steps": 8, "views_per_step": 3, "splats": 40, "resolution": 32, "densify": "none"},
)


def run(folder: Path, job: Job, share: Share, *, resume: bool = False, **options: Any) -> Any:
    """A whole run under a prior that takes no time to load."""
    folder.mkdir(exist_ok=True)
    return runs.generate(job, folder, resume=resume, say=lambda line: None, share=share, **options)


def quick() -> None:
    """Runs take the small prior, and write no video."""
    runs.load_prior = lambda *_, **__: NetworkPrior("sd3")  # type: ignore[assignment,return-value]
    runs.is_small = lambda prior: True  # type: ignore[assignment]
    recorder.write_turntable = lambda splats, path, **_: path.write_bytes(b"video")  # type: ignore[assignment]


def stopped(folder: Path, share: Share) -> None:
    """Steers after step 2, and stops after step 5."""
    settings: list[DistillConfig] = []
    done: list[int] = []

    def steer(step: Any) -> None:
        done.append(step.index)
        if step.index == 2:
            settings[0].guidance_scale, settings[0].views_per_step = 1.5, 2

    run(
        folder,
        JOB,
        share,
        on_start=lambda config, prior: settings.append(config),
        on_step=steer,
        stop=lambda: bool(done) and done[-1] == 5,
    )


class Breaks(NetworkPrior):
    """A prior that fails in its third step."""

    asked = 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        if self.asked == 3:
            raise module.UserError("this GPU has had enough; take another")
        return super().encode(images)


def broken(folder: Path, share: Share) -> str:
    """The second process fails; what the first one is told."""
    if not share.first:
        runs.load_prior = lambda *_, **__: Breaks("sd3")  # type: ignore[assignment,return-value]
    try:
        run(folder, JOB, share)
    except module.UserError as error:
        share.tell(error)
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    share = module.join()
    found: dict[str, Any] = {case: steps(case, share) for case in CASES}
    quick()
    stopped(folder / "stopped", share)
    run(folder / "stopped", JOB, share, resume=True)
    found["too few"] = ""
    try:
        run(folder / "few", replace(JOB, settings={**JOB.settings, "views_per_step": 1}), share)
    except module.UserError as error:
        found["too few"] = str(error)
    found["broken"] = broken(folder / "broken", share)
    torch.save(found, folder / f"{share.rank}.pt")
    with suppress(Exception):
        module.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
