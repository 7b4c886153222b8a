"""What a tiny prior is worth: how near its samples are to the truth, what the scorer sees in them; its time and size.

    python -m training.prior_check tiny-sd3 --output results/tiny-sd3.json
    python -m training.prior_check tiny-instaflow --output results/tiny-instaflow.json

Beside the JSON comes a sheet of samples, results/tiny-sd3.png. What the JSON holds already is not measured again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from rfgs.errors import UserError
from rfgs.measure.markdown import markdown
from rfgs.measure.results import fingerprint, open_results, save_results, write_sheet
from rfgs.models.available import check_source
from rfgs.models.catalog import locate
from rfgs.priors import load_prior
from rfgs.tinyworld.language import parse
from rfgs.tinyworld.prompts import FOLDER, OPEN, PROMPT_SETS, captioned, open_prompts
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.scorer import Scorer, load_scorer
from training.prior_cost import evaluation_seconds, load_seconds, megabytes
from training.sample_figures import figures, sample_views, truth_figures, world_pictures
from training.straightness import straight_figures

ASKED = {
    "single": ("kind", "color", "finish", "view"),
    "surroundings": ("kind", "color", "finish", "view", "ground"),
    "multiple": ("kind", "color", "finish", "view", "second_kind", "second_color", "relation"),
}
"""What the prompts of each set say, by the names of the scorer's classifiers."""
SETS = (*PROMPT_SETS, OPEN)
"""Sets of prompts; the open ones, which leave looks to choose, are measured by the truth alone."""


def set_prompts(name: str) -> dict[str, Scene]:
    """The prompts of a set, each with a scene that it may mean."""
    return captioned(name) if name != OPEN else {text: parse(text).looks()[0] for text in open_prompts()}


def best_scale(samples: dict[str, dict[str, dict[str, float]]], scales: Sequence[float]) -> float:
    """The scale at which "iou", averaged over the sets, is highest; of equal ones the lowest."""
    return max(
        sorted(scales), key=lambda scale: np.mean([row["iou"] for row in samples[f"{scale:g}"].values()])
    )


def check(
    prior: Any,
    scorer: Scorer,
    results: dict[str, Any],
    save: Callable[[], None],
    *,
    scales: Sequence[float],
    say: Callable[[str], None] = print,
) -> None:
    """Add to `results` what it lacks of the samples' figures, the truth first, and call `save` after each of them.

    "world" and "autoencoder" are the same figures for the world's own pictures, and for those encoded and decoded: the
    most that the scorer lets any prior have. The scorer's figures are of those prompts that it knows.
    "samples" and, of flows, "one_step" (one Euler step) have a table for each scale.
    """
    steps, count, each, seed = (
        results["settings"][key] for key in ("steps", "prompts", "per_prompt", "seed")
    )
    jobs: list[tuple[str, str | None, int, float]] = [("world", None, 0, 0), ("autoencoder", None, 0, 0)]
    jobs += [("samples", f"{scale:g}", steps, scale) for scale in scales]
    if prior.kind == "flow":
        jobs += [("one_step", f"{scale:g}", 1, scale) for scale in scales]
    for part, key, length, scale in jobs:
        table = (
            results.setdefault(part, {}) if key is None else results.setdefault(part, {}).setdefault(key, {})
        )
        for number, name in enumerate(SETS):
            if name in table:
                continue
            start, asked, pictures = time.perf_counter(), set_prompts(name), []
            prompts, scenes = list(asked), list(asked.values())
            for index, (prompt, scene) in enumerate(zip(prompts[:count], scenes, strict=False)):
                if key is None:
                    picture = world_pictures(
                        scene, prior.image_size, np.random.default_rng([seed, number, index])
                    )
                    if part == "autoencoder":
                        with torch.no_grad():
                            picture = prior.decode(prior.encode(picture))
                else:
                    seeds = [seed, number, index]
                    picture = sample_views(prior, prompt, each, length, scale, seeds)
                pictures.append(picture.cpu())
            table[name] = truth_figures(pictures, prompts[:count])
            known = scorer.known(prompts) if name in ASKED else []
            judged = [index for index, prompt in enumerate(prompts[:count]) if prompt in known]
            if judged:
                shown = [pictures[index] for index in judged], [scenes[index] for index in judged]
                own = [prompts[index] for index in judged]
                table[name] |= figures(scorer, *shown, own + [p for p in known if p not in own], ASKED[name])
            save()
            took = time.perf_counter() - start
            label = part if key is None else f"{part} at {key}"
            say(
                f"{label}, {name}: {took:.0f} s, IoU {table[name]['iou']:.1f} %, PSNR {table[name]['psnr']:.1f} dB"
            )


def sheet_rows(
    prior: Any, settings: dict[str, Any], scale: float, rows: int = 3
) -> list[tuple[str, list[Tensor]]]:
    """The first prompts of every set at a scale, from each of VIEWS; of flows the same in one step beside them."""
    shown = []
    for number, name in enumerate(SETS):
        for index, prompt in enumerate(list(set_prompts(name))[: min(rows, settings["prompts"])]):
            seeds = [settings["seed"], number, index]
            pictures = [*sample_views(prior, prompt, 1, settings["steps"], scale, seeds)]
            if prior.kind == "flow":
                pictures += sample_views(prior, prompt, 1, 1, 1.0, seeds)
            shown.append((prompt, pictures))
    return shown


def table(results: dict[str, Any]) -> str:
    """All samples' figures in Markdown."""
    columns = ["iou", "psnr", "edges", "decisiveness", "kind", "color", "finish", "view", "side", "ground"]
    columns += ["second_kind", "second_color", "relation"]
    columns += ["kinds", "colors", "mean", "all", "top1"]
    parts = [(part, results[part]) for part in ("world", "autoencoder")]
    parts += [
        (f"{part}, scale {s}", row)
        for part in ("samples", "one_step")
        for s, row in results.get(part, {}).items()
    ]
    rows = [
        [label, name, *(row.get(c) for c in columns)] for label, sets in parts for name, row in sets.items()
    ]
    return markdown([["pictures", "set", *columns], *rows])


@dataclass
class Options:
    model: tyro.conf.Positional[str]
    """A model's name or folder."""
    output: Path
    """The JSON; a sheet of samples comes beside it."""
    scales: tuple[float, ...] = (1, 2, 4, 7)
    """Guidance scales."""
    steps: int = 24
    """Steps of a sample."""
    prompts: int = 40
    """Prompts of each set, 1 to 40."""
    per_prompt: int = 1
    """Samples of each prompt with each view's words."""
    scorer: Path | None = None
    """Folder of the scorer; none means the one that ships."""
    seed: int = 0
    """Of the samples' noise."""
    threads: int = 2
    """Threads of the process."""


def run(options: Options) -> None:
    scales = [float(scale) for scale in options.scales]
    torch.set_num_threads(options.threads)
    folder = Path(locate(check_source(options.model)).source).expanduser()
    scorer_folder = options.scorer or FOLDER.parent / "scorer"
    scorer, prior = load_scorer(scorer_folder), load_prior(options.model, None)
    settings = {
        "model": options.model,
        "weights": fingerprint(folder),
        "scorer": fingerprint(scorer_folder),
        **{name: getattr(options, name) for name in ("steps", "prompts", "per_prompt", "seed")},
    }
    results = open_results(options.output, settings)

    def save() -> None:
        save_results(options.output, results)

    def measured(name: str, measure: Callable[[], Any]) -> None:
        if name not in results:
            results[name] = measure()
            save()
        print(f"{name}: {results[name]}", flush=True)

    measured("megabytes", lambda: megabytes(folder))
    measured("load_seconds", lambda: load_seconds(options.model))
    measured("evaluation_seconds", lambda: evaluation_seconds(prior))
    if prior.kind == "flow":
        measured("straightness", lambda: straight_figures(prior, settings))
    check(prior, scorer, results, save, scales=scales, say=lambda line: print(line, flush=True))
    results["best_scale"] = best_scale(results["samples"], scales)
    save()
    sheet = options.output.with_suffix(".png")
    write_sheet(sheet, sheet_rows(prior, settings, results["best_scale"]))
    print(f"{table(results)}\n\nbest scale {results['best_scale']:g}; wrote {options.output} and {sheet}")


def main() -> None:
    try:
        run(tyro.cli(Options, description=__doc__))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
