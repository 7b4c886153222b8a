"""How fast each guidance gets somewhere: the scorer's value against evaluations of the network, in 2D and in 3D.

    python bench/convergence.py                                     # everything
    python bench/convergence.py --spaces 2d --seeds 1               # the quicker half, once
    python bench/convergence.py --methods rfds:tiny-sd3 --spaces 2d --seeds 1 --image-steps 4    # does it run?

2D is what `rfgs image` does and 3D what `rfgs generate` does, with their own settings. At some steps what there is by then is
scored: in 2D 100 / rank of the prompt for each image, mean over images; in 3D `Scorer.score_asset`. The prompt competes with
all that differ from it in one word, as in the "exact" score of `rfgs bench`. Scoring does not count as time of the run.
Writes `--output` (JSON) and a plot beside it, and prints a Markdown table. Runs that the JSON holds are not made again.
"""

from __future__ import annotations

import rfgs  # noqa: F401  before torch, so that its threads wait as they do in `rfgs generate`

# isort: split

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from rfgs.distill import Step
from rfgs.errors import UserError
from rfgs.flat.particles import ParticleStep, optimise
from rfgs.flat.recipes import particle_recipe
from rfgs.guidance import find_guide, guides
from rfgs.models.catalogue import check_source, locate
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.runs.folders import slug
from rfgs.runs.generate import generate
from rfgs.runs.job import QUALITIES, Job
from rfgs.runs.methods import check_pair
from rfgs.tinyworld.prompts import FOLDER, PROMPT_SETS, captioned, rivals
from rfgs.tinyworld.scorer import Scorer, load_scorer, rank
from rfgs.training.results import fingerprint, markdown, open_results, save_results

METHODS = "sds:tiny-sd,vsd:tiny-sd,rfds:tiny-instaflow,rfds-rev:tiny-instaflow,rfds:tiny-sd3,rfds-rev:tiny-sd3,rfds-vsd:tiny-sd3"
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Of the steps after which the scorer is asked."""


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
    args: argparse.Namespace,
) -> dict[str, Any]:
    """One run of `rfgs image`."""
    prior = load_prior(
        model, find_guide(guidance).kind, dtype=distillation_dtype("cpu")
    )  # As `rfgs image` does.
    config = particle_recipe(prior, guidance)
    config.steps = args.image_steps or config.steps
    if args.guidance_scale is not None:
        config.guidance_scale = args.guidance_scale

    def score(step: Any) -> dict[str, float]:
        with torch.no_grad():
            cosines = scorer.similarity(step.images(), prompts)
        return {
            "score": 100 * rank(cosines, 0).reciprocal().mean().item(),
            "similarity": cosines[:, 0].mean().item(),
        }

    watch = Watch(score)
    for step in optimise(prompt, prior, config, generator=torch.Generator().manual_seed(seed)):
        watch(step)
    return {**watch.row(), "samples_per_step": config.particles, "guidance_scale": config.guidance_scale}


def asset_run(
    prompt: str,
    prompts: list[str],
    guidance: Any,
    model: str,
    seed: int,
    scorer: Scorer,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """One run of `rfgs generate`."""
    asked = {"steps": args.steps, "guidance_scale": args.guidance_scale}
    settings = {name: value for name, value in asked.items() if value is not None}
    job = Job(prompt, model=model, guidance=guidance, quality=args.quality, settings=settings, seed=seed)

    def score(step: Any) -> dict[str, float]:
        found = scorer.score_asset(step.splats, prompt, prompts)
        return {"score": found.score, "peak": found.peak, "similarity": found.similarity}

    watch = Watch(score)
    name = f"{guidance}-{Path(model).name}-{slug(prompt, 100)}-{seed}"
    folder = args.work / name
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
    return markdown([*header, "cost in all", "exact at the end", "least to most"], lines)


def plot(rows: list[dict], path: Path) -> None:
    """A row for each space: the mean score over runs (with the standard error) against evaluations and seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    spaces = [space for space in ("2d", "3d") if any(row["space"] == space for row in rows)]
    figure, grid = plt.subplots(len(spaces), 2, figsize=(11, 4.2 * len(spaces)), squeeze=False)
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


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    scorer_folder = args.scorer or FOLDER.parent / "scorer"
    scorer = load_scorer(scorer_folder)
    settings = {"scorer": fingerprint(scorer_folder)}
    settings |= {name: getattr(args, name) for name in ("image_steps", "steps", "quality", "guidance_scale")}
    results = open_results(args.output, settings)
    methods = [method.split(":", 1) for method in args.methods.split(",")]
    for method in methods:
        if len(method) != 2 or method[0] not in guides():
            raise UserError(
                f"--methods {':'.join(method)}: give GUIDANCE:MODEL, guidance one of {', '.join(guides())}"
            )
        weights = fingerprint(Path(locate(check_source(method[1])).source))
        check_pair(method[0], method[1])
        if results.setdefault("weights", {}).setdefault(method[1], weights) != weights:
            raise UserError(
                f"{args.output}: has results of other weights of {method[1]}; choose another --output"
            )
    sets = {name: captioned(name) for name in PROMPT_SETS}
    scenes = {prompt: scene for found in sets.values() for prompt, scene in found.items()}
    rows: list[dict] = results.setdefault("rows", [])
    done = {(row["space"], row["guidance"], row["model"], row["prompt"], row["seed"]) for row in rows}
    jobs = [
        (space, guidance, model, prompt, seed)
        for space in args.spaces.split(",")
        for seed in range(args.seeds)
        for prompts in sets.values()
        for prompt in list(prompts)[args.skip :][: args.prompts]
        for guidance, model in methods
    ]
    for number, key in enumerate(jobs, start=1):
        if key in done:
            continue
        space, guidance, model, prompt, seed = key
        measure = {"2d": images_run, "3d": asset_run}.get(space)
        if measure is None:
            raise UserError(f"--spaces {space}: there are 2d and 3d")
        found = measure(prompt, rivals(scenes[prompt]), guidance, model, seed, scorer, args)
        names = ("space", "guidance", "model", "prompt", "seed")
        rows.append({**dict(zip(names, key, strict=True)), "threads": args.threads, **found})
        save_results(args.output, results)
        last = found["points"][-1]
        print(
            f"{number}/{len(jobs)} {space} {guidance} {model}, {prompt}, seed {seed}: "
            f"exact {last['score']:.1f} after {cost_of(last):.0f} evaluations, {last['seconds']:.0f} s",
            flush=True,
        )
    asked = [
        row
        for row in rows
        if (row["space"], row["guidance"], row["model"], row["prompt"], row["seed"]) in set(jobs)
    ]
    plot(asked, args.output.with_suffix(".png"))
    print(f"{table(asked)}\n\nwrote {args.output} and {args.output.with_suffix('.png')}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    results = Path(__file__).parent / "results"
    parser.add_argument("--methods", default=METHODS, help="GUIDANCE:MODEL, with commas between")
    parser.add_argument("--spaces", default="2d,3d")
    parser.add_argument("--prompts", type=int, default=1, help="of each of the three sets")
    parser.add_argument("--skip", type=int, default=6, help="those of each set that settings were tuned on")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--image-steps", type=int, help="of 2D runs; none takes what suits the model")
    parser.add_argument("--steps", type=int, help="of 3D runs; none takes the preset's")
    parser.add_argument("--quality", choices=list(QUALITIES), default="normal", help="preset of 3D runs")
    parser.add_argument(
        "--guidance-scale", type=float, help="of all runs; none takes what suits model and guidance"
    )
    parser.add_argument("--output", type=Path, default=results / "convergence.json")
    parser.add_argument("--work", type=Path, default=Path("runs/convergence"), help="folder for the assets")
    parser.add_argument("--scorer", type=Path, help="folder of the scorer; none means the one that ships")
    parser.add_argument("--threads", type=int, default=2)
    try:
        run(parser.parse_args())
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
