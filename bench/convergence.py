"""How fast each guidance gets somewhere: the scorer's value against evaluations of the network, in 2D and in 3D.

    python bench/convergence.py                                     # everything
    python bench/convergence.py --spaces 2d --seeds 1               # the quicker half, once
    python bench/convergence.py --methods rfds:tiny-sd3 --spaces 2d --seeds 1 --image-steps 4    # does it run?

2D is what `rfgs image` does and 3D what `rfgs generate` does, with their own settings. At some steps what there is by then is
scored: in 2D 100 / rank of the prompt for each image, mean over images; in 3D `Scorer.score_asset`. The prompt competes with
all that differ from it in one word, as in the "exact" score of `rfgs bench`. Scoring does not count as time of the run.
Writes the table `--output` and a plot beside it, and prints it in Markdown. Runs that the table holds are not made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from program import RESULTS, start

from rfgs.distill import Step
from rfgs.errors import UserError
from rfgs.flat.particles import ParticleStep, optimize
from rfgs.flat.recipes import particle_recipe
from rfgs.guidance import find_guide, guides
from rfgs.measure.markdown import markdown
from rfgs.measure.remaining import remaining
from rfgs.measure.results import check_weights, fingerprint
from rfgs.measure.rows import append_row, check_settings, made_by, read_rows
from rfgs.models.available import check_source
from rfgs.models.catalog import locate
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.folders import slug
from rfgs.runs.generate import generate
from rfgs.runs.job import Job, QualityName
from rfgs.runs.methods import check_pair
from rfgs.tinyworld.prompts import FOLDER, PROMPT_SETS, captioned, rivals
from rfgs.tinyworld.scorer import Scorer, load_scorer, rank

METHODS = (
    "sds:tiny-sd",
    "vsd:tiny-sd",
    "rfds:tiny-instaflow",
    "rfds-rev:tiny-instaflow",
    "rfds:tiny-sd3",
    "rfds-rev:tiny-sd3",
    "rfds-vsd:tiny-sd3",
)
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the steps after which the scorer is asked."""


@dataclass
class Options:
    methods: tuple[str, ...] = METHODS
    """GUIDANCE:MODEL."""
    spaces: tuple[Literal["2d", "3d"], ...] = ("2d", "3d")
    """2D images, 3D assets, or both."""
    prompts: int = 1
    """Prompts of each of the three sets."""
    skip: int = 6
    """Those of each set that settings were tuned on."""
    seeds: int = 2
    """Seeds of each prompt."""
    image_steps: int | None = None
    """Steps of 2D runs; none takes what suits the model."""
    steps: int | None = None
    """Steps of 3D runs; none takes the preset's."""
    quality: QualityName = "normal"
    """Preset of 3D runs."""
    guidance_scale: float | None = None
    """Of all runs; none takes what suits model and guidance."""
    output: Path = RESULTS / "convergence.jsonl"
    """The table; the plot gets the same name with .png."""
    work: Path = Path("runs/convergence")
    """Folder for the assets."""
    scorer: Path | None = None
    """Folder of the scorer; none means the one that ships."""
    threads: int = 2
    """Threads of each process."""


class Watch:
    """Follows one run: what it has cost, and what the scorer says at FRACTIONS of the way."""

    def __init__(self, score: Callable[[Any], dict[str, float]]) -> None:
        self.score = score
        self.forward = self.backward = 0
        self.seconds: list[float] = []
        self.points: list[dict[str, float]] = []

    def __call__(self, step: Step | ParticleStep) -> None:
        self.forward += step.evaluations["forward"]
        self.backward += step.evaluations["backward"]
        self.seconds.append(sum(step.seconds.values()))
        if step.index in {max(1, round(fraction * step.total)) for fraction in FRACTIONS}:
            cost = {"forward": self.forward, "backward": self.backward, "seconds": sum(self.seconds)}
            self.points.append({"step": step.index, **cost, **self.score(step)})

    def row(self) -> dict[str, Any]:
        """Evaluations are of the network for one sample; those that a gradient comes back through count once in each."""
        steps = len(self.seconds)
        return {
            "steps": steps,
            "step_seconds": median(self.seconds),
            "step_forward": self.forward / steps,
            "step_backward": self.backward / steps,
            "points": self.points,
        }


def images_run(
    prompt: str,
    prompts: list[str],
    guidance: Any,
    model: str,
    seed: int,
    scorer: Scorer,
    options: Options,
) -> dict[str, Any]:
    """One run of `rfgs image`."""
    prior = load_prior(
        model, find_guide(guidance).kind, dtype=distillation_dtype("cpu")
    )  # As `rfgs image` does.
    config = particle_recipe(prior, guidance)
    config.steps = options.image_steps or config.steps
    if options.guidance_scale is not None:
        config.guidance_scale = options.guidance_scale

    def score(step: Any) -> dict[str, float]:
        with torch.no_grad():
            cosines = scorer.similarity(step.images(), prompts)
        return {
            "score": 100 * rank(cosines, 0).reciprocal().mean().item(),
            "similarity": cosines[:, 0].mean().item(),
        }

    watch = Watch(score)
    for step in optimize(prompt, prior, config, generator=torch.Generator().manual_seed(seed)):
        watch(step)
    return {**watch.row(), "samples_per_step": config.particles, "guidance_scale": config.guidance_scale}


def asset_run(
    prompt: str,
    prompts: list[str],
    guidance: Any,
    model: str,
    seed: int,
    scorer: Scorer,
    options: Options,
) -> dict[str, Any]:
    """One run of `rfgs generate`."""
    asked = {"steps": options.steps, "guidance_scale": options.guidance_scale}
    settings = {name: value for name, value in asked.items() if value is not None}
    job = Job(prompt, model=model, guidance=guidance, quality=options.quality, settings=settings, seed=seed)

    def score(step: Any) -> dict[str, float]:
        found = scorer.score_asset(step.splats, prompt, prompts)
        return {"score": found.score, "peak": found.peak, "similarity": found.similarity}

    watch = Watch(score)
    name = f"{guidance}-{Path(model).name}-{slug(prompt, 100)}-{seed}"
    folder = options.work / name
    if folder.exists():
        shutil.rmtree(folder)  # Of a run that was broken off: only whole ones are in the JSON.
    folder.mkdir(parents=True)
    result = generate(job, folder, on_step=watch)
    config = result.record["config"]
    return {
        **watch.row(),
        "samples_per_step": config["views_per_step"],
        "guidance_scale": config["guidance_scale"],
    }


def cost_of(point: dict[str, float]) -> float:
    """Evaluations, a way back counted as two (it costs about as much)."""
    return point["forward"] + 2 * point["backward"]


def grouped(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Rows by guidance and model, in the order in which they came first."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["guidance"], row["model"]), []).append(row)
    return found


def table(rows: list[dict]) -> str:
    """What a step costs and where runs end; means over runs, of seconds the median."""
    lines = []
    for space in ("2d", "3d"):
        for (guidance, model), runs in grouped([row for row in rows if row["space"] == space]).items():
            last = [run["points"][-1] for run in runs]
            lines.append(
                [
                    *(space, guidance, model, str(len(runs)), f"{mean(run['steps'] for run in runs):.0f}"),
                    f"{median(run['step_seconds'] for run in runs):.3f}",
                    f"{mean(run['step_forward'] for run in runs):.0f}",
                    f"{mean(run['step_backward'] for run in runs):.0f}",
                    f"{mean(cost_of(point) for point in last):.0f}",
                    mean(point["score"] for point in last),
                    f"{min(point['score'] for point in last):.1f} to {max(point['score'] for point in last):.1f}",
                ]
            )
    header = ["", "guidance", "model", "runs", "steps", "s a step", "forward a step", "backward a step"]
    return markdown([[*header, "cost in all", "exact at the end", "least to most"], *lines])


def plot(rows: list[dict], path: Path) -> None:
    """A row for each space: the mean score over runs (with the standard error) against evaluations and seconds."""
    spaces = [space for space in ("2d", "3d") if any(row["space"] == space for row in rows)]
    figure = Figure(figsize=(11, 4.2 * len(spaces)))
    grid = figure.subplots(len(spaces), 2, squeeze=False)
    guidances = list(guides())
    models = list(dict.fromkeys(row["model"] for row in rows))
    for axes, space in zip(grid, spaces, strict=True):
        for (guidance, model), runs in grouped([row for row in rows if row["space"] == space]).items():
            # Runs of one method are scored at the same steps.
            columns = list(zip(*(run["points"] for run in runs), strict=True))
            scores = torch.tensor([[point["score"] for point in column] for column in columns])
            middle = scores.mean(dim=1)
            error = scores.std(dim=1, correction=0) / len(runs) ** 0.5
            style = {
                "color": f"C{guidances.index(guidance)}",
                "linestyle": ("-", ":", "--")[models.index(model) % 3],
            }
            for axis, value in zip(axes, (cost_of, lambda point: point["seconds"]), strict=True):
                across = [mean(map(value, column)) for column in columns]
                axis.plot(across, middle, label=f"{guidance}, {Path(model).name}", **style)
                axis.fill_between(across, middle - error, middle + error, color=style["color"], alpha=0.12)
        axes[0].set(
            ylabel=f"exact score, {space.upper()}",
            xlabel="evaluations of the network (a way back counts as two)",
        )
        axes[1].set(xlabel="seconds")
        for axis in axes:
            axis.set_xscale("log")
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def key(row: dict[str, Any]) -> tuple:
    """What tells the runs of one table from one another."""
    return row["space"], row["guidance"], row["model"], row["prompt"], row["seed"]


def run(options: Options) -> None:
    torch.set_num_threads(options.threads)
    scorer_folder = options.scorer or FOLDER.parent / "scorer"
    scorer = load_scorer(scorer_folder)
    settings = {"scorer": fingerprint(scorer_folder)}
    settings |= {
        name: getattr(options, name) for name in ("image_steps", "steps", "quality", "guidance_scale")
    }
    rows = read_rows(options.output)
    check_settings(options.output, rows, settings)
    methods = [method.split(":", 1) for method in options.methods]
    weights: dict[str, str] = {}
    for method in methods:
        if len(method) != 2 or method[0] not in guides():
            raise UserError(
                f"--methods {':'.join(method)}: give GUIDANCE:MODEL, guidance one of {', '.join(guides())}"
            )
        check_pair(method[0], method[1])
        weights[method[1]] = fingerprint(Path(locate(check_source(method[1])).source))
    check_weights(options.output, rows, weights)
    sets = {name: captioned(name) for name in PROMPT_SETS}
    scenes = {prompt: scene for found in sets.values() for prompt, scene in found.items()}
    jobs = [
        (space, guidance, model, prompt, seed)
        for space in options.spaces
        for seed in range(options.seeds)
        for prompts in sets.values()
        for prompt in list(prompts)[options.skip :][: options.prompts]
        for guidance, model in methods
    ]
    wanted = {job: number for number, job in enumerate(jobs, start=1)}
    for job, number in remaining(options.output, wanted, key):
        space, guidance, model, prompt, seed = job
        measure = images_run if space == "2d" else asset_run
        found = measure(prompt, rivals(scenes[prompt]), guidance, model, seed, scorer, options)
        names = ("space", "guidance", "model", "prompt", "seed")
        about = {"threads": options.threads, "weights": weights[model], "settings": settings, **made_by()}
        append_row(options.output, {**dict(zip(names, job, strict=True)), **found, **about})
        last = found["points"][-1]
        print(
            f"{number}/{len(jobs)} {space} {guidance} {model}, {prompt}, seed {seed}: "
            f"exact {last['score']:.1f} after {cost_of(last):.0f} evaluations, {last['seconds']:.0f} s",
            flush=True,
        )
    asked = [row for row in read_rows(options.output) if key(row) in set(jobs)]
    plot(asked, options.output.with_suffix(".png"))
    print(f"{table(asked)}\n\nwrote {options.output} and {options.output.with_suffix('.png')}")


if __name__ == "__main__":
    start(run, Options, __doc__)
