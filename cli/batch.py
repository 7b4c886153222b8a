"""`rfgs batch`: many assets from one command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rfgs.errors import UserError
from rfgs.models.loading import Loading
from rfgs.models.places import expanded
from rfgs.runs.batch.best import ScoreName
from rfgs.runs.job import Job, QualityName
from rfgs.settings import Setting, declared

from .flags import Text, WholeNumber, default
from .making import MakesAssets

if TYPE_CHECKING:
    from rfgs.runs.batch.lines import Line
    from rfgs.runs.batch.local import Ended, Stop
    from rfgs.runs.batch.plan import Asset, State

COLUMNS: dict[str, Any] = {
    "backend": str,
    "model": str,
    "quality": QualityName,
    "guidance": str,
    "start": Path,
}
"""Flags that a table of prompts may have columns for, besides those of `Loading` and every setting."""


@dataclass
class Batch(MakesAssets):
    """Make many assets: a file of prompts, one a line, or a table (.csv) with a column prompt and one for each setting.

    Each gets a run's folder of its own and is made by a process of its own, several at a time. Stop it whenever you like:
    Ctrl-C has all of them write checkpoints, and the same command goes on. At the end there is a page, index.html.
    """

    prompts: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="PROMPTS.txt|PROMPTS.csv|PROMPT ...", help_behavior_hint=""),
    ] = ()
    """Files of prompts, and prompts in quotes."""
    output: Path = Path("runs/batch")
    """Folder of the batch, in which each asset has a folder of its own."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Number of seeds of each prompt."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """The first of them; a table's column seed wins."""
    keep_best: Annotated[WholeNumber, default("keep all")] = None
    """Keep the files of the best K seeds of each prompt only, by --score; of the others the record and a picture stay.
    For the small models of rfgs."""
    score: ScoreName = "truth"
    """What --keep-best goes by: truth is the PSNR against the small world's own geometry, scorer the likeness to the prompt
    in the eyes of the scorer that ships."""
    workers: Annotated[WholeNumber, default("all GPUs, or as many as there are cores and memory for")] = None
    """Number of assets that are made at a time, on this machine; cores are divided between them."""
    retries: Annotated[int, tyro.conf.arg(metavar="N")] = 2
    """How often an asset is tried again, from its checkpoint, whose process died or failed."""
    ray: Annotated[Text, default("this machine only")] = None
    """Address of a Ray cluster to make them on, such as auto or ray://host:10001. Its machines have rfgs[ray] installed and
    --output on a file system that they share."""
    dry_run: bool = False
    """Only check, and say what there is to do."""

    def run(self) -> None:
        """Checks every line, then makes what is missing."""
        from rfgs.export.writing import made
        from rfgs.runs import holding
        from rfgs.runs.batch import local, plan

        from .console import StopOnInterrupt

        self._check()
        self.device = self.on()  # Once, and not for each line.
        assets = self._assets()
        states = plan.states(self.output, assets)
        missing = [asset for asset, state in zip(assets, states, strict=True) if state in ("open", "begun")]
        say(_summary(states, self.output))
        if self.dry_run:
            say(self._where(missing or assets))
            return
        made(self.output)
        holding.hold(self.output)
        problems: dict[Path, str] = {}
        stop, done = local.Stop(), 0
        try:
            if missing:
                say(self._where(missing))
                told = "stopping all, which write checkpoints"
                with StopOnInterrupt(say, stop.ask, told=told):
                    for ended in self._ended(missing, stop):
                        if ended.problem:
                            problems[ended.asset.folder] = ended.problem
                        elif not ended.stopped:
                            done += 1
                            say(f"{done}/{len(missing)} {ended.asset.name}: {_seconds(ended.asset):.0f} s")
            self._finish(assets, problems)
        finally:
            holding.release(self.output)
        names = {asset.folder: asset.name for asset in assets}
        for folder, problem in problems.items():
            print(f"rfgs: not made: {names[folder]}: {problem}", file=sys.stderr)
        if stop.asked:
            say(f"{len(missing) - done - len(problems)} are left; the same command goes on")
            raise SystemExit(130)
        if problems:
            say(f"{len(problems)} of {len(assets)} were not made; the same command tries them again")
            raise SystemExit(1)

    def on(self) -> Literal["cpu", "cuda"]:
        """Of a cluster, its machines' and not this one's."""
        if self.ray is None:
            return super().on()
        from rfgs.runs.batch import on_ray

        return on_ray.device(self.ray, self.device)

    def _check(self) -> None:
        from rfgs.runs import folders

        for flag, value in (
            ("--seeds", self.seeds),
            ("--keep-best", self.keep_best),
            ("--workers", self.workers),
        ):
            if value is not None and value < 1:
                raise UserError(f"{flag} {value}: has to be at least 1")
        if self.retries < 0:
            raise UserError(f"--retries {self.retries}: has to be at least 0")
        if self.keep_best is not None and self.keep_best > self.seeds:
            raise UserError(
                f"--keep-best {self.keep_best}: there are {self.seeds} seeds of each prompt; make more with --seeds"
            )
        if self.keep_best is None and "score" in self.typed:
            raise UserError(
                f"--score {self.score}: is what --keep-best goes by; give that too, such as --keep-best 1"
            )
        if self.ray is not None and self.workers is not None:
            raise UserError(
                f"--workers {self.workers}: the cluster's own machines decide with --ray; leave it out"
            )
        if self.output.is_file():
            raise UserError(f"--output {self.output}: is a file; choose a folder")
        if (self.output / folders.RECORD).exists():
            raise UserError(f"--output {self.output}: is the folder of a single run; choose another folder")

    def _assets(self) -> list[Asset]:
        """What is asked for, all of it checked.

        Raises:
            UserError: a line that cannot be made, by its place in its file.
        """
        from rfgs.models import catalog
        from rfgs.models.words import Knowledge
        from rfgs.runs.batch import best, lines, plan

        assets: list[Asset] = []
        prompts: dict[tuple[str, str], dict[str, str]] = {}
        for line, job in self._jobs(lines.read(self.prompts)):
            if self.keep_best is not None and not catalog.is_small(job.model):
                raise UserError(
                    f"{line.where}: --keep-best: there are the scores {' and '.join(best.SCORES)}, which know the world of "
                    f"tiny-sd3 and its like only, and not {job.model}'s; leave out --keep-best, and choose on the page"
                )
            prompts.setdefault((job.model, job.settings.get("negative_prompt", "")), {})[line.where] = (
                job.prompt
            )
            own = {name: text for name, text in line.columns.items() if name != "seed"}
            for seed in range(job.seed, job.seed + self.seeds):
                folder = self.output / plan.name_of(job.prompt, seed, own)
                score = self.score if self.keep_best is not None else ""
                assets.append(plan.Asset(replace(job, seed=seed), folder, score))
        for (model, negative), named in prompts.items():
            remark = Knowledge.of(model).check(named, negative, any_words=self.any_words)
            if remark:
                say(remark)
            if self.keep_best is not None:
                best.check_score(named, self.score)
        return plan.distinct(assets)

    def _jobs(self, found: list[Line]) -> Iterator[tuple[Line, Job]]:
        """The job of each line with its first seed. What lines have in common is checked once."""
        from . import checks

        jobs: dict[tuple[tuple[str, str], ...], Job] = {}
        for line in found:
            own = tuple(item for item in line.columns.items() if item[0] != "seed")
            try:
                prompt, seed = checks.check_prompt(line.prompt), self._seed(line)
                if own not in jobs:
                    jobs[own] = self._with(dict(own)).job(prompt, seed)
                yield line, replace(jobs[own], prompt=prompt, seed=seed)
            except UserError as error:
                raise UserError(f"{line.where}: {error}") from error

    def _seed(self, line: Line) -> int:
        from . import checks

        text = line.columns.get("seed")
        first = self.seed if text is None else Setting("seed", int, 0, least=0).parse(text)
        return checks.check_seed(first + self.seeds - 1) - self.seeds + 1

    def _with(self, columns: Mapping[str, str]) -> Batch:
        """This command with what a line says of its own."""
        loading = declared(Loading)
        flags: dict[str, Any] = {}
        loads: dict[str, Any] = {}
        sets = []
        for name, text in columns.items():
            if name in COLUMNS:
                value = Setting(name, COLUMNS[name], None).parse(text)
                flags[name] = expanded(value) if name == "start" else value
            elif name in loading:
                loads[name] = loading[name].parse(text)
            elif name == "device":
                raise UserError("device: is the same for all lines; leave the column out, and give --device")
            else:
                sets.append(f"{name}={text}")
        one = replace(self, **flags, set=(*self.set, *sets), loading=replace(self.loading, **loads))
        one.typed = self.typed
        return one

    def _where(self, assets: list[Asset]) -> str:
        """How many are made at a time, and where."""
        from rfgs.runs.batch import places

        device = assets[0].job.device
        if self.ray is not None:
            return f"on the Ray cluster at {self.ray}, on its {device}s"
        found = places.places(self._most(assets), self.workers)
        each = f", {found[0].environment['OMP_NUM_THREADS']} threads each"
        return f"{len(found)} at a time on the {device}{each}"

    def _most(self, assets: list[Asset]) -> Any:
        """What the most demanding of them takes."""
        from rfgs.runs.batch import places

        return places.most_demanding(asset.job for asset in assets)

    def _ended(self, assets: list[Asset], stop: Stop) -> Iterator[Ended]:
        from rfgs.runs.batch import local, places

        if self.ray is not None:
            from rfgs.runs.batch import on_ray

            return on_ray.run(assets, self._most(assets), address=self.ray, retries=self.retries, stop=stop)
        found = places.places(self._most(assets), self.workers)
        return local.run(assets, found, retries=self.retries, stop=stop, say=say)

    def _finish(self, assets: list[Asset], problems: dict[Path, str]) -> None:
        """Keeps the best, and writes the page."""
        from rfgs.runs.batch import best, page

        if self.keep_best is not None:
            removed = best.keep(assets, self.keep_best, _record)
            if removed:
                say(
                    f"removed the files of {len(removed)} that are not among the best {self.keep_best} by {self.score}"
                )
        say(f"page: {page.write_page(self.output, assets, problems, _record)}")


def say(line: str) -> None:
    print(line, flush=True)


def _summary(states: list[State], folder: Path) -> str:
    counts = {state: states.count(state) for state in ("done", "dropped", "begun", "open")}
    names = {"done": "made", "dropped": "made and not kept", "begun": "begun", "open": "not begun"}
    parts = [f"{counts[state]} {name}" for state, name in names.items() if counts[state]]
    return f"{len(states)} assets in {folder}: {', '.join(parts)}"


def _record(folder: Path) -> dict[str, Any]:
    from rfgs.runs import folders

    return folders.read_record(folder) if (folder / folders.RECORD).exists() else {}


def _seconds(asset: Asset) -> float:
    return sum(_record(asset.folder).get("seconds", {}).values())
