"""Inversion and editing of pictures of the tiny world that no prior was trained on, where the true edit is known.

    python bench/inversion.py --models tiny-sd3 tiny-instaflow
    python bench/inversion.py --images 2 --steps 20                     # does it run?

Every picture is inverted and edited as `rfgs invert` and `rfgs edit` do it, each with its own files in `--work`. Prints
Markdown tables, and writes the table `--output` and beside it a sheet of edits for each model. What the table holds already is
not measured again.

An edit changes one word, the main thing's color or its kind. It succeeds if the scorer's classifier says the new word;
"kept" is the share of the other classifiers (kind or color, finish, ground, view, and of pairs the second thing and the
relation) that say what they say of the source; "both" is success with all of them kept. "world" is the world's own picture
under the new word: the most that the scorer lets any method have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any, NamedTuple

import numpy as np
import torch
from program import RESULTS, start
from torch import Tensor

from rfgs.errors import UserError
from rfgs.flat.images import psnr, read_image, save_image
from rfgs.flat.jobs import EditJob, InvertJob
from rfgs.flat.runs import edit_photo, invert_photo
from rfgs.measure.markdown import markdown
from rfgs.measure.remaining import remaining
from rfgs.measure.results import check_weights, fingerprint, write_sheet
from rfgs.measure.rows import append_row, check_settings, made_by, read_rows
from rfgs.models.available import check_source
from rfgs.models.catalog import locate
from rfgs.render.cameras import DEFAULT_FOV, orbit, view_words
from rfgs.tinyworld.kinds import KINDS
from rfgs.tinyworld.language import caption
from rfgs.tinyworld.pictures import SETS, draw_view
from rfgs.tinyworld.placing import build
from rfgs.tinyworld.prompts import FOLDER
from rfgs.tinyworld.scenes import COLORS, Scene, draw_scene
from rfgs.tinyworld.scorer import BACKGROUND, Scorer, load_scorer
from rfgs.tinyworld.scorer_labels import class_numbers
from rfgs.tinyworld.tracer import render_scene

SIZE = 128
INVERT_METHODS, EDIT_METHODS = ("irfds", "ode"), ("irfds", "ode", "flowedit")


@dataclass
class Options:
    models: tuple[str, ...] = ("tiny-sd3", "tiny-instaflow")
    """Rectified flows, names or folders."""
    images: int = 32
    """Number of pictures."""
    steps: int | None = None
    """Steps of all methods; none takes what suits the model."""
    guidance_scale: float | None = None
    """Of edits; none takes what `rfgs edit` does."""
    output: Path = RESULTS / "inversion.jsonl"
    """The table."""
    work: Path = Path("runs/inversion")
    """Folder for the pictures."""
    scorer: Path | None = None
    """Folder of the scorer; none means the one that ships."""
    seed: int = 0
    """Of the pictures and of the runs."""
    threads: int = 2
    """Threads of each process."""


class Case(NamedTuple):
    """One picture and what it should become."""

    scene: Scene
    edited: Scene
    view: str
    changed: str
    """"color" or "kind"."""
    source: Tensor
    """[1, 3, SIZE, SIZE], as is `truth`, the world's own picture of `edited` with the same sizes and camera."""
    truth: Tensor

    def prompt(self, scene: Scene) -> str:
        return f"{caption(scene)}, {self.view}"


def draw_case(seed: int, index: int) -> Case:
    """A held-out scene over grey; every second one changes its color, the others their kind.

    None has two things side by side: from behind and from a side nothing tells which is the first.
    """
    rng = np.random.default_rng([seed, index])
    scene = draw_scene(rng, rng.choice(list(SETS), p=list(SETS.values())), held_out=True)
    while scene.relation == "next to":
        scene = draw_scene(rng, rng.choice(list(SETS), p=list(SETS.values())), held_out=True)
    azimuth, elevation, distance = draw_view(rng)
    first, *others = scene.things
    changed, words = ("color", tuple(COLORS)) if index % 2 == 0 else ("kind", tuple(KINDS))
    left = [word for word in words if word != getattr(first, changed)]
    edited = replace(scene, things=(replace(first, **{changed: left[rng.integers(len(left))]}), *others))
    camera = orbit(azimuth, elevation, distance, DEFAULT_FOV, SIZE, SIZE)

    def picture(scene: Scene) -> Tensor:
        primitives = build(scene, np.random.default_rng([seed, index, 1]))
        rgba = render_scene(primitives, camera.viewmats.numpy(), camera.Ks.numpy(), SIZE, SIZE)[0]
        rgb = rgba[..., :3] + (1 - rgba[..., 3:]) * BACKGROUND
        return torch.as_tensor(rgb).permute(2, 0, 1)[None]

    return Case(scene, edited, view_words(azimuth, elevation)[0], changed, picture(scene), picture(edited))


def judge(scorer: Scorer, case: Case, image: Tensor) -> dict[str, Any]:
    """Success and what was kept, see the top; PSNR in dB to the source and to the true edit."""
    said = scorer.classify(torch.cat([image, case.source]))
    verdicts = {name: logits.argmax(dim=1).tolist() for name, logits in said.items()}
    if unknown := scorer.unknown(case.edited) + scorer.unknown(case.scene):
        raise UserError(
            f"the scorer does not know {', '.join(unknown)}; train one of this world, or take other seeds"
        )
    numbers = class_numbers(case.edited, case.view, labels=scorer.labels)
    wanted = dict(zip(scorer.labels, numbers, strict=True))
    others = [name for name in scorer.labels if name != case.changed and wanted[name] >= 0]
    kept = [verdicts[name][0] == verdicts[name][1] for name in others]
    success = verdicts[case.changed][0] == wanted[case.changed]
    return {
        "changed": case.changed,
        "success": 100.0 * success,
        "kept": 100 * float(mean(kept)),
        "both": 100.0 * (success and all(kept)),
        "to_source": finite_psnr(image, case.source),
        "to_truth": finite_psnr(image, case.truth),
    }


def finite_psnr(image: Tensor, reference: Tensor) -> float:
    """PSNR in dB, at most 99."""
    return min(99.0, psnr(image, reference))


def inverted(record: dict[str, Any]) -> dict[str, Any]:
    """What the record of `rfgs invert` is kept for."""
    metrics, seconds = record["metrics"], record["seconds"]
    return {
        "psnr": min(99.0, metrics["reconstruction_psnr"]),
        "autoencoder": min(99.0, metrics["autoencoder_psnr"]),
        **{name: metrics[f"noise_{name}"] for name in ("mean", "variance", "whiteness")},
        # Without the way back to the picture, which costs one evaluation a step.
        "evaluations": record["evaluations"]["forward"] - record["settings"]["reconstruction"]["steps"],
        "seconds": seconds["inversion"],
    }


def measure(model: str, index: int, case: Case, scorer: Scorer, folder: Path, options: Options) -> dict:
    """All methods on one picture."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = folder / "source.png"
    save_image(case.source, photo)

    def run(kind: str, method: str) -> tuple[Tensor, dict[str, Any]]:
        inside = folder / f"{kind}-{method}"
        inside.mkdir(exist_ok=True)
        common = {"photo": str(photo), "method": method, "model": model, "seed": options.seed + index}
        steps = {"steps": options.steps, **common}
        if kind == "invert":
            result = invert_photo(InvertJob(prompt=case.prompt(case.scene), **steps), inside)
        else:
            prompts = {"source": case.prompt(case.scene), "target": case.prompt(case.edited)}
            result = edit_photo(EditJob(**prompts, guidance_scale=options.guidance_scale, **steps), inside)
        return result.image.cpu(), result.record

    row: dict[str, Any] = {"source": case.prompt(case.scene), "target": case.prompt(case.edited)}
    row["inversion"] = {method: inverted(run("invert", method)[1]) for method in INVERT_METHODS}
    row["editing"] = {"world": judge(scorer, case, case.truth)}
    for method in EDIT_METHODS:
        image, record = run("edit", method)
        seconds = sum(record["seconds"].get(part, 0.0) for part in ("inversion", "sampling"))
        cost = {"evaluations": record["evaluations"]["forward"], "seconds": seconds}
        row["editing"][method] = {**judge(scorer, case, image), **cost}
    return row


def inversion_table(rows: dict[str, list[dict]]) -> str:
    """Means over pictures, and the spread (standard deviation) of the PSNR."""
    header = [
        "model",
        "method",
        "PSNR",
        "spread",
        "least",
        "autoencoder alone",
        "noise mean",
        "variance",
        "whiteness",
    ]
    lines = []
    for model, found in rows.items():
        for method in INVERT_METHODS:
            each = [row["inversion"][method] for row in found]
            values = [one["psnr"] for one in each]

            def average(name: str, each: list[dict] = each) -> float:
                return mean(one[name] for one in each)

            noise = [f"{average(name):.3f}" for name in ("mean", "variance", "whiteness")]
            cost = [f"{average('evaluations'):.0f}", average("seconds")]
            spread = [mean(values), pstdev(values), min(values)]
            lines.append([model, method, *spread, average("autoencoder"), *noise, *cost])
    return markdown([[*header, "evaluations", "seconds"], *lines])


def editing_table(rows: dict[str, list[dict]]) -> str:
    """Means over pictures: percent, PSNR in dB."""
    names = ["success", "kept", "both", "to_source", "to_truth"]
    lines: list[list] = []
    for model, found in rows.items():
        for method in ("world", *EDIT_METHODS):
            each = [row["editing"][method] for row in found]
            by_word = [
                mean(picked)
                if (picked := [one["success"] for one in each if one["changed"] == word])
                else None
                for word in ("color", "kind")
            ]
            cost: list = [None, None]
            if method != "world":
                cost = [
                    f"{mean(one['evaluations'] for one in each):.0f}",
                    mean(one["seconds"] for one in each),
                ]
            lines.append(
                [model, method, *(mean(one[name] for one in each) for name in names), *by_word, *cost]
            )
    header = ["model", "method", "success %", "kept %", "both %", "PSNR to source", "PSNR to true edit"]
    return markdown([[*header, "success, color", "success, kind", "evaluations", "seconds"], *lines])


def sheet(model: str, cases: list[Case], rows: list[dict], work: Path) -> list[tuple[str, list[Tensor]]]:
    """Source, true edit, and the edits by each method, of the cases whose pictures are there."""
    shown = []
    for index, (case, row) in enumerate(zip(cases, rows, strict=True)):
        folder = work / model.replace("/", "_") / f"{index:02d}"
        if not folder.exists():  # Only its figures were kept, from another machine.
            continue
        edits = [read_image(folder / f"edit-{method}" / "image.png")[0] for method in EDIT_METHODS]
        shown.append((f"{row['source']} -> {row['target']}", [case.source[0], case.truth[0], *edits]))
    return [("source, true edit, " + ", ".join(EDIT_METHODS), []), *shown]


def run(options: Options) -> None:
    torch.set_num_threads(options.threads)
    scorer_folder = options.scorer or FOLDER.parent / "scorer"
    scorer = load_scorer(scorer_folder)
    settings = {"scorer": fingerprint(scorer_folder)}
    settings |= {name: getattr(options, name) for name in ("steps", "guidance_scale", "seed")}
    weights = {model: fingerprint(Path(locate(check_source(model)).source)) for model in options.models}
    rows = read_rows(options.output)
    check_settings(options.output, rows, settings)
    check_weights(options.output, rows, weights)
    cases = [draw_case(options.seed, index) for index in range(options.images)]
    wanted = {(model, index): case for model in options.models for index, case in enumerate(cases)}
    for (model, index), case in remaining(options.output, wanted, lambda row: (row["model"], row["picture"])):
        folder = options.work / model.replace("/", "_") / f"{index:02d}"
        row = measure(model, index, case, scorer, folder, options)
        about = {"weights": weights[model], "settings": settings, **made_by()}
        append_row(options.output, {"model": model, "picture": index, **row, **about})
        found = row["inversion"]
        told = ", ".join(f"{method} {found[method]['psnr']:.1f} dB" for method in INVERT_METHODS)
        print(f"{model} {index + 1}/{options.images}: {row['target']}: {told}", flush=True)
    shown = by_model(read_rows(options.output), options.models, options.images)
    print(f"\n{inversion_table(shown)}\n\n{editing_table(shown)}\n")
    for model, found in shown.items():
        path = options.output.with_name(f"{options.output.stem}-{Path(model).name}.png")
        page = sheet(model, cases, found, options.work)
        if len(page) > 1:
            write_sheet(path, page)
            print(f"wrote {path}")


def by_model(rows: list[dict], models: Sequence[str], images: int) -> dict[str, list[dict]]:
    """Each model's rows of the first pictures, in their order."""
    ordered = sorted(rows, key=lambda row: row["picture"])
    return {
        model: [row for row in ordered if row["model"] == model and row["picture"] < images]
        for model in models
    }


if __name__ == "__main__":
    start(run, Options, __doc__)
