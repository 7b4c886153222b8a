"""Which settings of guidance and loop make an asset right: arms by prompts by seeds, measured against the truth.

    python bench/method.py --arms rfds rfds-rev                        # under the exact prior, drafts, seed 0
    python bench/method.py --arms rfds pull --model tiny-sd3 --seeds 0 1 --quality normal
    python bench/method.py --print                                     # only the tables of what was measured

One line a run in `--output`; runs that it holds are not made again. The table has each arm's means, and of its differences from
the first arm, prompt by prompt and seed by seed, the 95 % interval of a bootstrap over prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from program import RESULTS, start

from rfgs.distill import distill, first_splats
from rfgs.distill.recipes import config_for
from rfgs.guidance import find_guide
from rfgs.measure.remaining import remaining
from rfgs.measure.rows import append_row, read_rows
from rfgs.priors import Prior, load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.job import QUALITIES, QualityName
from rfgs.splats import without_haze
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.truth import measure

PROMPTS = (
    "a green umbrella",
    "an orange sailboat",
    "a white duck on water",
    "a golden crown on stone",
    "a red cube on a blue cylinder",
    "a black donut next to a black chair",
    "a mug",
    "a cat",
    "a flower in snow",
    "a fish on sand",
    "a hat on a barrel",
    "a duck next to a present",
)
"""Closed ones, and then those that leave looks open: two of a thing alone, in surroundings, and in pairs each."""
PEOPLE = (
    "a house",
    "a castle",
    "a mushroom",
    "a penguin",
    "a mug",
    "a crown",
    "a car",
    "a cat",
    "a striped red mug",
    "a dotted blue ball",
    "a duck on water",
    "a red cube on a blue cylinder",
    "a green umbrella",
    "a house in snow",
    "a hat on a barrel",
    "a duck next to a present",
)
"""What people type first, most of it with details that blur takes away: doors, eyes, dots and stripes."""
PLAIN = {"final_guidance_scale": None, "opaque_weight": 0.0}
LOW = {**PLAIN, "noise_range": (0.15, 0.98), "final_noise_range": (0.35, 0.75)}
HIGH = {**PLAIN, "noise_range": (0.7, 0.98), "final_noise_range": (0.3, 0.5)}
OPEN = {**PLAIN, "noise_range": (0.95, 0.99), "final_noise_range": (0.75, 0.85)}
"""Noise at which it is still open which picture a view is (`bench/undecided.py`)."""
SETTLE = {**OPEN, "final_noise_range": (0.5, 0.6), "noise_curve": 2.0}
LONG = {**OPEN, "final_noise_range": (0.3, 0.5)}
"""From where nothing is settled to where all is; of `tiny-sd3` with RFDS the default, with guidance from 8 to 4."""
LONG_HALF = {**LONG, "guidance_scale": 8.0, "final_guidance_scale": 4.0}
OPAQUE = {"opaque_weight": 1.0, "opaque_after": 0.6}
STUDENT = {**LONG, **OPAQUE, "guidance_scale": 1.5}
EXACT = {**SETTLE, "guidance_scale": 2.0, "final_guidance_scale": 1.0}
LOUD, SOFT = {"guidance_scale": 8.0}, {"guidance_scale": 4.0, "final_guidance_scale": 2.0}
ARMS: dict[str, dict[str, Any]] = {
    "rfds": {"guidance": "rfds", **LOW, **LOUD},
    "high": {"guidance": "rfds", **HIGH, **LOUD},
    "high-fall": {"guidance": "rfds", **HIGH, **LOUD, "final_guidance_scale": 2.0},
    "high-half": {"guidance": "rfds", **HIGH, **LOUD, "final_guidance_scale": 4.0},
    "low-fall": {"guidance": "rfds", **LOW, **LOUD, "final_guidance_scale": 2.0},
    "long": {"guidance": "rfds", **LONG, **LOUD},
    "long-fall": {"guidance": "rfds", **LONG, **LOUD, "final_guidance_scale": 2.0},
    "low": {"guidance": "rfds", **LOW, "guidance_scale": 4.0},
    "low-half": {"guidance": "rfds", **LOW, **LOUD, "final_guidance_scale": 4.0},
    "long-half": {"guidance": "rfds", **LONG_HALF},
    "long-opaque": {"guidance": "rfds", **LONG_HALF, "opaque_weight": 1.0, "opaque_after": 0.3},
    "long-opaque-late": {"guidance": "rfds", **LONG_HALF, **OPAQUE},
    "low-soft": {"guidance": "rfds", **LOW, **SOFT},
    "long-soft": {"guidance": "rfds", **LONG, **SOFT},
    "long-soft-opaque": {"guidance": "rfds", **LONG, **SOFT, **OPAQUE},
    "higher": {
        "guidance": "rfds",
        **HIGH,
        **LOUD,
        "noise_range": (0.8, 0.98),
        "final_noise_range": (0.3, 0.4),
    },
    "high-pull": {"guidance": "rfds", **HIGH, **LOUD, "opacity_weight": 1.0},
    "open": {"guidance": "rfds", **OPEN, **SOFT},
    "open-settle": {"guidance": "rfds", **SETTLE, **SOFT},
    "exact-guided": {"guidance": "rfds", **EXACT},
    "exact-opaque": {"guidance": "rfds", **EXACT, **OPAQUE},
    "exact-plain-opaque": {
        "guidance": "rfds",
        **EXACT,
        "guidance_scale": 1.0,
        "opaque_weight": 1.0,
        "opaque_after": 0.4,
    },
    "rev": {"guidance": "rfds-rev", **LOW},
    "rev-high": {"guidance": "rfds-rev", **HIGH},
    "rev-open": {"guidance": "rfds-rev", **OPEN, **SOFT},
    "rev-settle": {"guidance": "rfds-rev", **SETTLE, **SOFT},
    "rev-long-half": {"guidance": "rfds-rev", **LONG_HALF},
    "vsd": {"guidance": "rfds-vsd", **LOW},
    "student": {"guidance": "rfds-vsd", **STUDENT},
    "student-short": {"guidance": "rfds-vsd", **STUDENT, "steps": 66, "lr_lora": 1e-3},
    "student-1": {"guidance": "rfds-vsd", **STUDENT, "guidance_scale": 1.0},
    "student-2": {"guidance": "rfds-vsd", **STUDENT, "guidance_scale": 2.0},
    "student-falls": {
        "guidance": "rfds-vsd",
        **STUDENT,
        "guidance_scale": 4.0,
        "final_guidance_scale": 1.0,
    },
    "student-fast": {"guidance": "rfds-vsd", **STUDENT, "lr_lora": 1e-3},
    "student-faster": {"guidance": "rfds-vsd", **STUDENT, "lr_lora": 3e-3},
    "student-slow": {"guidance": "rfds-vsd", **STUDENT, "lr_lora": 3e-5},
    "student-open": {"guidance": "rfds-vsd", **STUDENT, "final_noise_range": (0.75, 0.85)},
    "student-clear": {"guidance": "rfds-vsd", **STUDENT, "opaque_weight": 0.0},
    "rev-3-high": {"guidance": "rfds-rev", **HIGH, "inner_steps": 3},
}
"""What each arm sets otherwise than the recipe for its guidance. Under the exact prior their guidance scale is 1, but for the
arms that are made for it, and unless scales are given."""


KEY = ("model", "quality", "arm", "prompt", "seed")


@dataclass
class Options:
    arms: tuple[str, ...] = tuple(ARMS)
    """Which of them; the first is what the others are compared with."""
    prompts: tuple[str, ...] = PROMPTS
    people: bool = False
    """PEOPLE in the place of `prompts`."""
    guidance: str = ""
    """Of all arms, in the place of their own: each arm is there as "sds:long-half"."""
    scales: tuple[float, ...] = ()
    """Guidance scales, the same throughout, in the place of the arms' own; of each arm there is one more for each, "rfds@4"."""
    seeds: tuple[int, ...] = (0,)
    model: str = "tiny-exact"
    quality: QualityName = "draft"
    output: Path = RESULTS / "method.jsonl"
    print: bool = False
    """Only print the tables of what was measured."""


def make(prior: Prior, prompt: str, seed: int, quality: QualityName, settings: dict[str, Any]) -> tuple:
    """An asset as `rfgs generate` makes it; the splats, processor seconds, evaluations."""
    own = {name: value for name, value in settings.items() if name != "guidance"}
    config = config_for(prior, settings["guidance"], QUALITIES[quality], own)
    generator = torch.Generator().manual_seed(seed)
    splats, evaluations = first_splats(config, generator), 0
    # What is made once for a prompt, such as the exact prior's pictures, does not count as time of the run.
    with torch.no_grad():
        prior.predict(torch.zeros(1, 16, 16, 16), torch.ones(1), prior.embed([prompt]))
    began = time.process_time()
    for step in distill(prompt, prior, splats, config, generator=generator):
        splats, evaluations = step.splats, evaluations + step.evaluations["forward"]
    return without_haze(splats.detach()), time.process_time() - began, evaluations


def arms_of(options: Options) -> dict[str, dict[str, Any]]:
    """The settings of the arms that are asked for, by name."""
    arms = {name: ARMS[name] for name in options.arms}
    if options.guidance:
        arms = {
            f"{options.guidance}:{name}": {**settings, "guidance": options.guidance}
            for name, settings in arms.items()
        }
    if options.scales:
        return {
            f"{name}@{scale:g}": {**settings, "guidance_scale": scale, "final_guidance_scale": None}
            for scale in options.scales
            for name, settings in arms.items()
        }
    if options.model == "tiny-exact":
        return {
            name: settings if name.startswith("exact") else {**settings, "guidance_scale": 1.0}
            for name, settings in arms.items()
        }
    return arms


def key(row: dict[str, Any]) -> tuple:
    return tuple(row[name] for name in KEY)


def table(rows: Sequence[dict[str, Any]], arms: Sequence[str], which: str) -> list[str]:
    """Markdown: the arms' means over prompts that all have, and intervals of their differences from the first."""
    by_arm = {arm: {(r["prompt"], r["seed"]): r for r in rows if r["arm"] == arm} for arm in arms}
    common = sorted(set.intersection(*(set(found) for found in by_arm.values())))
    if not common:
        return []
    against = f"against {arms[0]}"
    out = [
        f"| {which}, {len(common)} runs | IoU | {against} | dB | {against} | edges | {against} | decisive | s | evaluations |"
    ]
    out.append("|---|--:|---|--:|---|--:|---|--:|--:|--:|")
    for arm in arms:
        mine = [by_arm[arm][k] for k in common]
        base = [by_arm[arms[0]][k] for k in common]
        cells = []
        for name, digits in (("iou", 3), ("psnr", 1), ("edges", 3)):
            if any(name not in row for row in [*mine, *base]):
                cells += ["", ""]  # Measured before there were edges.
                continue
            cells.append(f"{np.mean([r[name] for r in mine]):.{digits}f}")
            low, high = interval(common, [a[name] - b[name] for a, b in zip(mine, base, strict=True)])
            cells.append("" if arm == arms[0] else f"{low:+.{digits}f} to {high:+.{digits}f}")
        decisive = [r["decisiveness"] for r in mine if r.get("decisiveness") is not None]
        cells.append(f"{np.mean(decisive):.2f}" if decisive else "")
        cells += [f"{np.mean([r[name] for r in mine]):.0f}" for name in ("seconds", "evaluations")]
        out.append(f"| {arm} | {' | '.join(cells)} |")
    return out


def interval(keys: Sequence[tuple], differences: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """95 % of a mean difference, by a bootstrap over prompts; the seeds of a prompt stay together."""
    prompts = sorted({prompt for prompt, _ in keys})
    means = np.array(
        [np.mean([d for k, d in zip(keys, differences, strict=True) if k[0] == p]) for p in prompts]
    )
    picks = np.random.default_rng(0).integers(len(means), size=(draws, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    prompts = PEOPLE if options.people else options.prompts
    arms = arms_of(options)
    wanted = {
        (options.model, options.quality, arm, prompt, seed): settings
        for prompt in (() if options.print else prompts)
        for seed in options.seeds
        for arm, settings in arms.items()
    }
    prior = None
    for name, settings in remaining(options.output, wanted, key):
        kind = find_guide(settings["guidance"]).kind
        prior = prior or load_prior(options.model, kind, dtype=distillation_dtype("cpu"))
        row: dict[str, Any] = dict(zip(KEY, name, strict=True))
        splats, seconds, evaluations = make(prior, row["prompt"], row["seed"], options.quality, settings)
        row |= {k: round(v, 4) for k, v in measure(splats, row["prompt"]).figures().items()}
        row |= {"seconds": round(seconds, 1), "evaluations": evaluations, "splats": len(splats)}
        append_row(options.output, row)
        print(json.dumps(row), flush=True)
    done = {key(row): row for row in read_rows(options.output)}
    rows = [r for r in done.values() if (r["model"], r["quality"]) == (options.model, options.quality)]
    rows = [r for r in rows if r["seed"] in options.seeds and r["prompt"] in prompts]
    is_open = {prompt: len(parse(prompt).looks()) > 1 for prompt in prompts}
    for which, wanted in (("all", (True, False)), ("closed", (False,)), ("open", (True,))):
        print("\n".join(["", *table([r for r in rows if is_open[r["prompt"]] in wanted], list(arms), which)]))


if __name__ == "__main__":
    start(main, Options, __doc__)
