"""Doing runs: the splats, the loop, the score, the record."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rfgs.distill import DistillConfig, distill, loop
from rfgs.distill.recipes import config_for
from rfgs.distill.settings import START_RADIUS, StartConfig
from rfgs.errors import UserError
from rfgs.export import read_ply, write_ply
from rfgs.export.writing import made, sweep
from rfgs.guidance import as_dict
from rfgs.measure.plan import (
    BOUNDS,
    FIT,
    RUN_SETTINGS,
    TRUTH,
    WRONG,
    Run,
    read_prompts,
)
from rfgs.measure.records import (
    asset_path,
    records_by_key,
    replace_record,
    run_of,
    still_open,
    table_path,
)
from rfgs.measure.remaining import remaining
from rfgs.measure.rows import append_row, made_by
from rfgs.models import embedded
from rfgs.priors import Prior, load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.job import QUALITIES
from rfgs.splats import Splats, ball, without_haze
from rfgs.tinyworld import truth
from rfgs.tinyworld.asset_views import asset_views
from rfgs.tinyworld.language import UnknownThing, parse
from rfgs.tinyworld.pictures import thing_colors
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.prompts import OPEN, captioned, rivals
from rfgs.tinyworld.scenes import Scene
from rfgs.tinyworld.scorer import Scorer, asset_pictures, load_scorer
from rfgs.tinyworld.scorer_net import SIZE
from rfgs.tinyworld.scorer_views import world_views
from rfgs.tinyworld.shapes import cameras_at, traced
from rfgs.tinyworld.tracer import painted

SCORE_FIELDS = ("score", "peak", "top1", "rank", "similarity")


class Judge:
    """The scorer with the prompts that compete in each set, and what tells it from another one."""

    def __init__(self, folder: Path | None = None):
        folder = embedded.folder("scorer") if folder is None else folder
        self.scorer: Scorer = load_scorer(folder)
        self.identity = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]

    def splats(self, splats: Splats, run: Run) -> dict[str, float]:
        """The score of an asset among all prompts of its set. Splats with numbers that are not finite are not seen."""
        finite = splats.are_finite()
        if not finite.any():
            rank = float(len(read_prompts([run.prompt_set])[run.prompt_set]))
            return {"score": 0.0, "exact": 0.0, "peak": 0.0, "top1": 0.0, "rank": rank, "similarity": 0.0}
        return self.views(*asset_pictures(splats.select(finite)), run)

    def bound(self, run: Run) -> dict[str, float]:
        """The score of what a bound shows in place of an asset."""
        if run.column not in (TRUTH, WRONG):
            return self.splats(bound_splats(run), run)
        return self.views(world_views(bound_rows(run)[1]), asset_views(SIZE)[1], run)

    def truth(self, splats: Splats, run: Run) -> dict[str, float]:
        """How near an asset is to what its prompt names (`rfgs.tinyworld.truth`); nothing for prompts of another world."""
        finite = splats.are_finite()
        try:
            return truth.measure(splats.select(finite), run.prompt).figures()
        except UnknownThing:
            return {}

    def bound_truth(self, run: Run) -> dict[str, float]:
        """`truth` of what a bound shows in place of an asset."""
        if run.column not in (TRUTH, WRONG):
            return self.truth(bound_splats(run), run)
        scene, rows = bound_rows(run)
        layers = traced(rows, cameras_at(truth.VIEWS, truth.SIZE))
        rgb = painted(layers, thing_colors(scene)) + truth.GREY * (1 - layers[..., 7:])
        return truth.measure_views(
            rgb.astype(np.float64), layers[..., 7] > 0.5, parse(run.prompt).looks()
        ).figures()

    def views(self, images: Tensor, neighbors: Tensor, run: Run) -> dict[str, float]:
        """Scores of pictures [V, 3, H, W]: among the prompts of the set, and "exact" among those one word away.

        Prompts that the scorer does not know do not compete, and have no scores of their own.
        """
        names = self.scorer.known(read_prompts([run.prompt_set])[run.prompt_set])
        if run.prompt not in names or len(names) < 2:
            return {}
        vectors = self.scorer.embed_images(images)
        result = self.scorer.score_vectors(vectors, run.prompt, names, neighbors)
        found = {name: float(getattr(result, name)) for name in SCORE_FIELDS}
        scene = None if run.prompt_set == OPEN else captioned(run.prompt_set).get(run.prompt)
        if scene:
            others = self.scorer.known(rivals(scene))
            found["exact"] = self.scorer.score_vectors(vectors, run.prompt, others, neighbors).score
        return found


def bound_rows(run: Run) -> tuple[Scene, np.ndarray]:
    """The scene that the bound TRUTH or WRONG shows, in a size of the seed's own, and its primitives."""
    names = read_prompts([run.prompt_set])[run.prompt_set]
    if run.prompt not in names:
        raise UserError(
            f"{run.prompt!r}: is not a prompt of the set {run.prompt_set}, so the world cannot draw it"
        )
    shown = names.index(run.prompt) + (run.column == WRONG)
    looks = parse(names[shown % len(names)]).looks()
    scene = looks[run.seed % len(looks)]
    return scene, build(scene, np.random.default_rng([run.seed, shown]))


@functools.lru_cache(maxsize=1)
def _fitted(prompt: str, seed: int, splats: int) -> Splats:
    looks = parse(prompt).looks()
    generator = torch.Generator().manual_seed(seed)
    normal = QUALITIES["normal"]
    config = DistillConfig(**{**normal, "splats": splats}, max_splats=2 * splats)
    start = ball(splats, START_RADIUS, generator=generator)
    fitted = truth.fit_truth(looks[seed % len(looks)], start, config, generator=generator)
    return without_haze(fitted)


def bound_splats(run: Run) -> Splats:
    """What the bounds START and FIT show."""
    return _fitted(run.prompt, run.seed, run.splats) if run.column == FIT else first_splats(run)


def work(
    runs: Sequence[Run],
    folder: Path,
    judge: Judge,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> int:
    """Does the runs that nobody did or is doing, each with a record; returns how many.

    Several processes may work on one folder at once. What another one is doing is passed by, not waited for.

    Raises:
        UserError: a model that cannot be had, or a run that is there with other settings.
    """
    open_runs = still_open(folder, runs)
    if len(open_runs) < len(runs):
        say(f"{len(runs) - len(open_runs)} of {len(runs)} runs are done already")
    priors: dict[str, Prior] = {}
    done = 0
    wanted = {run.key: (number, run) for number, run in enumerate(open_runs, 1)}
    for _, (number, run) in remaining(table_path(folder), wanted, lambda row: run_of(row).key):
        if run.column not in BOUNDS and run.model not in priors:
            priors[run.model] = load_prior(
                run.model, kind=None, device=device, dtype=distillation_dtype(device)
            )
        record = do(run, folder, judge, priors.get(run.model), device)
        done += 1
        say(
            f"{number}/{len(open_runs)} {run.column}: {run.prompt}, seed {run.seed}: "
            f"{_told(record['truth'])}{_scored(record['score'])}{record['seconds']['total']:.0f} s"
        )
    return done


def _scored(score: dict[str, float]) -> str:
    """The score for a line of progress; nothing where the scorer does not know the prompt."""
    return f"score {score['score']:.1f}, " if score else ""


def _told(true: dict[str, float]) -> str:
    return f"IoU {true['iou']:.3f}, {true['psnr']:.1f} dB, edges {true['edges']:.2f}, " if true else ""


def do(run: Run, folder: Path, judge: Judge, prior: Prior | None, device: str = "cpu") -> dict[str, Any]:
    """One run from its start to its record, which is returned."""
    began = time.perf_counter()
    seconds, evaluations = Counter[str](), Counter[str]()
    record: dict[str, Any] = {"run": asdict(run)}
    if prior is None:
        score, true = judge.bound(run), judge.bound_truth(run)
    else:
        config = config_of(run, prior)
        record["config"] = as_dict(config)
        splats, seconds, evaluations = make(run, config, prior, device)
        path = asset_path(folder, run)
        made(path.parent)
        sweep(path)
        write_ply(splats, path)
        record["splats"] = len(splats)
        scoring = time.perf_counter()
        score, true = judge.splats(splats, run), judge.truth(splats, run)
        seconds["score"] = time.perf_counter() - scoring  # type: ignore[assignment]
    record |= {
        "truth": true,
        "score": score,
        "scorer": judge.identity,
        "evaluations": dict(evaluations),
        "seconds": {"total": time.perf_counter() - began, **seconds},
        "threads": torch.get_num_threads(),
        **made_by(torch.cuda.get_device_name() if device == "cuda" else None),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    append_row(table_path(folder), record)
    return record


def make(
    run: Run, config: DistillConfig, prior: Prior, device: str = "cpu"
) -> tuple[Splats, Counter[str], Counter[str]]:
    """A run's asset as `rfgs generate` makes it, on the CPU, with its seconds and evaluations by kind."""
    seconds, evaluations = Counter[str](), Counter[str]()
    generator = torch.Generator().manual_seed(run.seed)
    splats = first_splats(run, generator).to(device)
    for step in distill(run.prompt, prior, splats, config, generator=generator):
        splats = step.splats
        seconds.update(step.seconds)
        evaluations.update(step.evaluations)
        if step.index == step.total // 2:
            config.guidance = run.settings.get("second_guidance", config.guidance)
    return without_haze(splats.detach()).to("cpu"), seconds, evaluations


def first_splats(run: Run, generator: torch.Generator | None = None) -> Splats:
    """The ball that a run starts from; `generator` goes on to the loop, as in `rfgs.runs.generate`."""
    given = {name: run.settings[name] for name in ("start_radius", "start_opacity") if name in run.settings}
    generator = torch.Generator().manual_seed(run.seed) if generator is None else generator
    return loop.first_splats(StartConfig(splats=run.splats, **given), generator)


def config_of(run: Run, prior: Prior) -> DistillConfig:
    """The prior's recipe with what the run wants otherwise."""
    values = {name: value for name, value in run.settings.items() if name not in RUN_SETTINGS}
    sizes = {name: getattr(run, name) for name in ("steps", "views_per_step", "splats", "densify")}
    return config_for(prior, run.guidance, sizes, values, also=run.settings.get("second_guidance"))


def rescore(folder: Path, judge: Judge, say: Callable[[str], None] = print) -> int:
    """Score again what is in a folder with another scorer's score or without the truth; returns how many were replaced."""
    replaced = 0
    for record in records_by_key(folder).values():
        if record.get("scorer") == judge.identity and "truth" in record:
            continue
        run = run_of(record)
        if run.column in BOUNDS:
            score, true = judge.bound(run), judge.bound_truth(run)
        else:
            splats = read_ply(asset_path(folder, run))
            score, true = judge.splats(splats, run), judge.truth(splats, run)
        replace_record(folder, {**record, "truth": true, "score": score, "scorer": judge.identity})
        replaced += 1
        say(f"{run.column}: {run.prompt}, seed {run.seed}: {_told(true)}{_scored(score)}".rstrip(", "))
    return replaced
