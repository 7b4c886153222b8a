"""`rfgs bench`: prompts, models, guidances and seeds against one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rfgs.runs.job import QualityName

from .flags import AnyWords, Folder, Number, WholeNumber, default


@dataclass
class Bench:
    """Compare methods: make assets of many prompts, measure each against the truth, score it, print tables with intervals.

    Stop it whenever you like: the same command goes on with what is missing, and several may work on one folder at once.
    """

    output: Path = Path("runs/bench")
    """Folder of the results: results.jsonl with a line a run, assets, table.md, table.png, sheet.png."""
    report: Annotated[Folder, default("make what is missing first")] = None
    """Only print and draw what this folder holds."""
    sets: tuple[Literal["single", "surroundings", "multiple", "open"], ...] = (
        "single",
        "surroundings",
        "multiple",
    )
    """Prompt sets; open has prompts that say no colors."""
    prompts: Annotated[WholeNumber, default("all of it")] = None
    """Number of prompts of each set."""
    skip: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Prompts of each set to leave out before the first, such as those that settings were tuned on."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Number of seeds of each prompt: 0, 1, ..."""
    columns: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="MODEL:GUIDANCE ...", help_behavior_hint="(default: all seven of the paper's table)"
        ),
    ] = ()
    """Methods, such as tiny-sd3:rfds-rev."""
    ablations: bool = False
    """In place of the columns: the default method, and one column for each single change to it."""
    bounds: bool = True
    """Score upper and lower bounds too."""
    quality: QualityName = "normal"
    """Preset for the numbers of steps, views and splats."""
    steps: Annotated[WholeNumber, default("the preset's")] = None
    """Number of optimization steps of each run."""
    guidance_scale: Annotated[Number, default("each model's own")] = None
    """How strongly the prompt is enforced; the same as --set guidance_scale=X."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Any setting (`rfgs settings` lists them), for all columns that read it, or with COLUMN.NAME=VALUE for one; such as
    --set views_per_step=2, --set final_noise_range=0.2,0.9 or --set tiny-sd:sds.guidance_scale=25."""
    scorer: Annotated[Folder, default("the one that ships")] = None
    """Folder of the model that scores."""
    any_words: AnyWords = False
    """Go on where a prompt names a thing that the model has never seen. Small models know few things, and
    nobody knows what they make of others."""
    rescore: bool = False
    """Score what the folder holds again where that was done with another scorer, or without the truth."""
    threads: Annotated[WholeNumber, default("all cores")] = None
    """Threads of each process."""
    part: Annotated[str, tyro.conf.arg(metavar="K/N")] = "1/1"
    """Make only every N-th run, from the K-th on, to share the work between machines. Their results.jsonl
    are put together with cat."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes an NVIDIA GPU if there is one."""

    def run(self) -> None:
        """Makes what is missing, then reports."""
        from rfgs.errors import UserError

        from . import checks

        folder = self.output if self.report is None else self.report
        if self.report is None:
            device = checks.check_device(self.device)
            for flag, value in (
                ("--prompts", self.prompts),
                ("--seeds", self.seeds),
                ("--steps", self.steps),
                ("--threads", self.threads),
            ):
                if value is not None and value < 1:
                    raise UserError(f"{flag} {value}: has to be at least 1")
            runs = self._runs()
            self._work(runs, folder, device)
        print(report(folder))

    def _runs(self) -> list:
        from rfgs.errors import UserError
        from rfgs.measure import ablations, given, plan

        if self.ablations and self.columns:
            raise UserError("--columns: --ablations has columns of its own; leave one of the two out")
        quality = plan.quality_of(self.quality, self.steps)
        columns = plan.find_columns(self.columns) if self.columns else list(plan.COLUMNS)
        if self.ablations:
            columns = ablations.ablation_columns(quality)
        scale = [] if self.guidance_scale is None else [f"guidance_scale={self.guidance_scale}"]
        settings = given.parse_settings([*scale, *self.set], columns)
        shared = settings.get("", {})
        columns = [given.with_settings(column, shared, settings.get(column.name, {})) for column in columns]
        if self.bounds:
            columns += [plan.Column("world", "rfds-rev", label=name) for name in plan.BOUNDS]
        prompts = plan.read_prompts(self.sets, self.prompts, self.skip)
        return plan.part_of(plan.plan(columns, prompts, self.seeds, quality), self.part)

    def _work(self, runs: list, folder: Path, device: str) -> None:
        import torch

        from rfgs.export.writing import made
        from rfgs.measure import plan, work
        from rfgs.models import available
        from rfgs.models.words import Knowledge

        def say(line: str) -> None:
            print(line, flush=True)

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        for model in dict.fromkeys(run.model for run in runs if run.column not in plan.BOUNDS):
            available.check_source(model)
            prompts = dict.fromkeys(run.prompt for run in runs if run.model == model)
            remark = Knowledge.of(model).check(
                {f'prompt "{prompt}"': prompt for prompt in prompts}, any_words=self.any_words
            )
            if remark:
                say(remark)
        judge = work.Judge(self.scorer)
        made(folder)
        if self.rescore:
            work.rescore(folder, judge, say)
        work.work(runs, folder, judge, device=device, say=say)


TRUTHS = {
    "iou": ("Truth: IoU of the silhouettes with those of what the prompt names (docs/truth.md).", 3),
    "psnr": ("Truth: PSNR of the colors, dB.", 1),
    "edges": ("Truth: the share of edges that an asset and what its prompt names both have, as sharp.", 3),
    "decisiveness": (
        "Truth: decisiveness, 0 for a mixture of all looks that an open prompt allows, 1 for one of them.",
        2,
    ),
    "janus": (
        "Truth: the share of views that look like another side than theirs; things that look alike from all around are left out.",
        3,
    ),
}
"""The figures of the truth, with what they are and their decimals."""


def report(folder: Path) -> str:
    """Writes a results folder's tables and pictures; returns the tables."""
    from rfgs.export.writing import atomic
    from rfgs.measure import ablations, plan, sheets, table
    from rfgs.measure.markdown import markdown
    from rfgs.measure.records import check_figures, read_records

    records = read_records(folder)
    check_figures(folder, records)
    figures = table.table(records)
    parts = [f"warning: {warning}" for warning in table.warnings(records)]
    truths = {
        key: table.table(records, key)
        for key in TRUTHS
        if any(key in record.get("truth", {}) for record in records)
    }
    for key, found in truths.items():
        title, digits = TRUTHS[key]
        parts += [title, table.table_text(found, digits)]
    by_truth = table.measured(truths.get("iou", {}))
    if differences := table.differences_text(records, by_truth):
        parts += ["Truth: differences from the best, run by run of the same prompt and seed.", differences]
    parts += [
        "Score, 0 to 100, with the 95% interval of a bootstrap over prompts.",
        table.table_text(figures),
        "Exact: the same among the prompts that differ in one word from the asset's own, which is harder.",
        table.table_text(table.table(records, "exact")),
    ]
    parts += [f"{name}: {meaning}" for name, meaning in plan.BOUNDS.items() if name in figures]
    if ablations.BASE.name in figures:
        questions = {ablation.name: ablation.question for ablation in ablations.ABLATIONS}
        found = {key: table.effects(records, ablations.BASE.name, key) for key in ("iou", "psnr", "edges")}
        rows = [["change", "effect on IoU", "on PSNR, dB", "on edges", "runs", "question"]]
        for name, effect in found["psnr"].items():
            iou, edges = (found[key].get(name, table.NOTHING).told(3) for key in ("iou", "edges"))
            rows.append([name, iou, effect.told(), edges, str(effect.runs), questions.get(name, "")])
        parts += ["Effects of single changes, run by run against the base.", markdown(rows)]
    parts += ["What a run took.", table.costs_text(records)]
    text = "\n\n".join(parts) + "\n"
    with atomic(folder / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    if by_truth:
        sheets.write_plot(folder / "table.png", by_truth, what="IoU with the truth", most=1.0)
    else:
        sheets.write_plot(folder / "table.png", figures)
    sheets.write_sheet(folder / "sheet.png", folder, records)
    return text + f"\nwrote {folder / 'table.md'}, {folder / 'table.png'} and {folder / 'sheet.png'}"
