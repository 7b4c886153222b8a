"""Doing runs: the splats, the loop, the score, the record."""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from rfgs import machine
from rfgs.bench.plan import (
    BOUNDS,
    FIT,
    RUN_SETTINGS,
    TRUTH,
    WRONG,
    Run,
    claim,
    is_done,
    read_prompts,
    read_record,
    record_path,
    write_record,
)
from rfgs.distill import DistillConfig, distill
from rfgs.errors import UserError
from rfgs.export import read_ply, write_ply
from rfgs.generate import START_RADIUS
from rfgs.job import QUALITIES
from rfgs.priors import DiffusionPrior, Prior, load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.recipes import recipe
from rfgs.splats import Splats, ball, without_haze
from rfgs.tinyworld import truth
from rfgs.tinyworld.data import thing_colors
from rfgs.tinyworld.language import UnknownThing, parse
from rfgs.tinyworld.prompts import OPEN, captioned, rivals
from rfgs.tinyworld.scenes import Scene, build
from rfgs.tinyworld.scorer import Scorer, asset_pictures, asset_views, load_scorer
from rfgs.tinyworld.scorer_check import world_views
from rfgs.tinyworld.scorer_data import SIZE
from rfgs.tinyworld.shapes import cameras_at, traced
from rfgs.tinyworld.tracer import painted

SCORE_FIELDS = ("score", "peak", "top1", "rank", "similarity")


class Judge:
    """The scorer with the prompts that compete in each set, and what tells it from another one."""

    def __init__(self, folder: Path | None = None):
        folder = Path(str(files("rfgs.assets"))) / "scorer" if folder is None else folder
        self.scorer: Scorer = load_scorer(folder)
        self.identity = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]

    def splats(self, splats: Splats, run: Run) -> dict[str, float]:
        """The score of an asset among all prompts of its set. Splats with numbers that are not finite are not seen."""
        finite = are_finite(splats)
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
        finite = are_finite(splats)
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

    def views(self, images: Tensor, neighbours: Tensor, run: Run) -> dict[str, float]:
        """Scores of pictures [V, 3, H, W]: among the prompts of the set, and "exact" among those one word away.

        Prompts that the scorer does not know do not compete, and have no scores of their own.
        """
        names = self._known(read_prompts([run.prompt_set])[run.prompt_set])
        if run.prompt not in names or len(names) < 2:
            return {}
        vectors = self.scorer.embed_images(images)
        result = self.scorer.score_vectors(vectors, run.prompt, names, neighbours)
        found = {name: float(getattr(result, name)) for name in SCORE_FIELDS}
        scene = None if run.prompt_set == OPEN else captioned(run.prompt_set).get(run.prompt)
        if scene:
            others = self._known(rivals(scene))
            found["exact"] = self.scorer.score_vectors(vectors, run.prompt, others, neighbours).score
        return found

    def _known(self, prompts: Sequence[str]) -> list[str]:
        """Those prompts of whose words and looks the scorer, which may be older than the world, knows all."""

        def looks_known(prompt: str) -> bool:
            try:
                return not any(self.scorer.unknown(scene) for scene in parse(prompt).looks())
            except UnknownThing:
                return True

        return [p for p in prompts if not self.scorer.unknown_words([p]) and looks_known(p)]


def are_finite(splats: Splats) -> Tensor:
    """Which splats have numbers throughout, [N]."""
    values = [value.reshape(len(splats), -1) for value in splats.parameters().values()]
    return torch.stack([value.isfinite().all(dim=1) for value in values]).all(dim=0)


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
    config = DistillConfig(steps=normal.steps, views_per_step=normal.views_per_step)
    config.densify, config.max_splats = normal.densify, 2 * splats
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
    open_runs = [run for run in runs if not is_done(folder, run)]
    if len(open_runs) < len(runs):
        say(f"{len(runs) - len(open_runs)} of {len(runs)} runs are done already")
    priors: dict[str, Prior | DiffusionPrior] = {}
    done = 0
    for number, run in enumerate(open_runs, 1):
        with claim(folder, run) as mine:
            # Another process may have done it since the list was made.
            if not mine or is_done(folder, run):
                continue
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
    return f"IoU {true['iou']:.3f}, {true['psnr']:.1f} dB, " if true else ""


def do(
    run: Run, folder: Path, judge: Judge, prior: Prior | DiffusionPrior | None, device: str = "cpu"
) -> dict[str, Any]:
    """One run from its start to its record, which is returned."""
    began = time.perf_counter()
    seconds, evaluations = Counter[str](), Counter[str]()
    path = record_path(folder, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"run": asdict(run)}
    if prior is None:
        score, true = judge.bound(run), judge.bound_truth(run)
    else:
        config = config_of(run, prior)
        record["config"] = asdict(config)
        splats, seconds, evaluations = make(run, config, prior, device)
        write_ply(splats, path.with_suffix(".ply"))
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
        "cpu": machine.cpu_model(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "versions": machine.versions(),
        "git_commit": machine.git_commit(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_record(path, record)
    return record


def make(
    run: Run, config: DistillConfig, prior: Prior | DiffusionPrior, device: str = "cpu"
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
    """The ball that a run starts from; `generator` goes on to the loop, as in `rfgs.generate`."""
    return ball(
        run.splats,
        run.settings.get("start_radius", START_RADIUS),
        generator=torch.Generator().manual_seed(run.seed) if generator is None else generator,
        opacity=run.settings.get("start_opacity", 0.1),
    )


def config_of(run: Run, prior: Prior | DiffusionPrior) -> DistillConfig:
    """The prior's recipe with what the run wants otherwise."""
    config = recipe(prior, run.guidance)
    config.steps, config.views_per_step = run.steps, run.views_per_step
    config.resolution, config.densify, config.max_splats = prior.image_size, run.densify, 2 * run.splats
    for name, value in run.settings.items():
        if name not in RUN_SETTINGS:
            setattr(config, name, tuple(value) if isinstance(value, list) else value)
    return config


def rescore(folder: Path, judge: Judge, say: Callable[[str], None] = print) -> int:
    """Score again what is in a folder with another scorer's score or without the truth; returns how many were replaced."""
    replaced = 0
    for path in sorted(folder.glob("*/*.json")):
        record = read_record(path)
        if path.name.startswith(".") or (record["scorer"] == judge.identity and "truth" in record):
            continue
        run = Run(**record["run"])
        if run.column in BOUNDS:
            score, true = judge.bound(run), judge.bound_truth(run)
        else:
            splats = read_ply(path.with_suffix(".ply"))
            score, true = judge.splats(splats, run), judge.truth(splats, run)
        write_record(path, {**record, "truth": true, "score": score, "scorer": judge.identity})
        replaced += 1
        say(f"{run.column}: {run.prompt}, seed {run.seed}: {_told(true)}{_scored(score)}".rstrip(", "))
    return replaced


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings from "name=value" (of all columns, under "") and "COLUMN.name=value" (of one).

    Raises:
        UserError: no such setting, or a value of another type than its own.
    """
    types = {**get_type_hints(DistillConfig), **RUN_SETTINGS}
    known = {field.name for field in fields(DistillConfig)} | set(RUN_SETTINGS)
    settings: dict[str, dict[str, Any]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        column, dot, name = left.rpartition(".")
        if not equals or name not in known:
            raise UserError(f"--set {text}: is not NAME=VALUE with one of {', '.join(sorted(known))}")
        try:
            parsed = _parse(types[name], value)
        except ValueError as error:
            raise UserError(f"--set {text}: {value!r} does not fit {name}") from error
        settings.setdefault(column if dot else "", {})[name] = parsed
    return settings


def _parse(kind: Any, value: str) -> Any:
    """A setting's value of its type. Pairs are written "0.1,0.9", and become lists, as in a record."""
    if kind is bool:
        return value.lower() == "true" if value.lower() in ("true", "false") else _refuse(value)
    if kind in (int, float, str):
        return kind(value)
    if get_origin(kind) is tuple:
        parts = [float(part) for part in value.split(",")]
        return parts if len(parts) == len(get_args(kind)) else _refuse(value)
    choices = get_args(kind)
    if type(None) in choices:
        return _parse(choices[0], value)
    return value if value in choices else _refuse(value)


def _refuse(value: str) -> NoReturn:
    raise ValueError(value)
