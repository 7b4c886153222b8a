"""What `rfgs t3bench` judges: prompts from files, and the assets that were made of them, from folders or a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rfgs.errors import UserError
from rfgs.measure.plan import BOUNDS
from rfgs.measure.records import asset_path, records_by_key, run_of, table_path
from rfgs.runs.folders import RECORD, SPLATS, read_record

SETS = ("single", "surr", "multi")
"""T3Bench's, in its order."""
OWN = "own prompts"
"""The set of all prompts that there are assets of, where no files name any."""


@dataclass(frozen=True)
class Asset:
    """One asset, or the lack of one."""

    method: str
    prompt: str
    seed: int
    path: Path | None


def read_sets(folder: Path) -> dict[str, list[str]]:
    """The prompts of each set: those of prompt_NAME.txt, one a line, by NAME.

    Raises:
        UserError: the folder has no such file, or one that is empty or cannot be read.
    """
    sets = {}
    for path in sorted(folder.glob("prompt_*.txt")) if folder.is_dir() else []:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if not prompts:
            raise UserError(f"{path}: has no prompts; there should be one a line")
        sets[path.stem.removeprefix("prompt_")] = prompts
    if not sets:
        raise UserError(
            f"--prompts {folder}: has no prompt_single.txt, prompt_surr.txt or prompt_multi.txt; they are in the folder data/ of "
            "https://github.com/THU-LYJ-Lab/T3Bench, which has no license and is not part of rfgs"
        )
    return {name: sets[name] for name in (*SETS, *sets) if name in sets}


def find_assets(source: Path) -> list[Asset]:
    """The assets that a path names.

    Args:
        source: a folder that has runs of `rfgs generate` in it, at any depth, or is one; a folder that `rfgs bench` filled; or a
            table, a line "PROMPT<tab>FILE" for each asset, for those of other programs.

    Raises:
        UserError: it is none of these, or has no assets.
    """
    if source.is_file():
        found = _of_table(source)
    elif not source.is_dir():
        raise UserError(f"{source}: no such folder or table; give a folder of runs, such as runs")
    elif table_path(source).exists():
        runs = [run_of(record) for record in records_by_key(source).values()]
        runs = [run for run in runs if run.column not in BOUNDS]
        found = [Asset(run.column, run.prompt, run.seed, asset_path(source, run)) for run in runs]
    else:
        found = _of_runs(source)
    found = [asset for asset in found if asset.path is not None and asset.path.is_file()]
    if not found:
        raise UserError(f"{source}: has no assets; make some with `rfgs generate` or `rfgs bench`")
    return found


def _of_table(path: Path) -> list[Asset]:
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            prompt, tab, file = line.partition("\t")
            if not (prompt.strip() and tab and file.strip()):
                raise UserError(f"{path}: line {number} is not PROMPT<tab>FILE")
            asset = path.parent / file.strip()
            if not asset.is_file():
                raise UserError(f"{path}: line {number}: there is no {asset}; leave the line out")
            found.append(Asset(path.stem, prompt.strip(), 0, asset))
    return found


def _of_runs(folder: Path) -> list[Asset]:
    found = []
    for record in sorted(folder.rglob(RECORD)):
        try:
            job = read_record(record.parent).get("job")
        except UserError:
            continue  # Somebody else's run.json.
        if isinstance(job, dict) and isinstance(job.get("prompt"), str) and job["prompt"]:
            model = Path(str(job.get("model", ""))).name
            method, seed = f"{model}:{job.get('guidance', '')}", job.get("seed", 0)
            found.append(
                Asset(method, job["prompt"], seed if isinstance(seed, int) else 0, record.parent / SPLATS)
            )
    return found


def chosen(assets: Iterable[Asset], sets: dict[str, list[str]]) -> dict[str, dict[str, list[Asset]]]:
    """For each method and set an asset for each prompt, in the order of the prompts, one without a file where there is none.

    Of several seeds the lowest is taken, as T3Bench judges one asset a prompt. Capitals and spaces at the ends do not matter.
    """
    by_method: dict[str, dict[str, Asset]] = {}
    for asset in sorted(assets, key=lambda asset: (asset.method, asset.seed, str(asset.path))):
        by_method.setdefault(asset.method, {}).setdefault(_same(asset.prompt), asset)
    return {
        method: {
            name: [
                replace(there.get(_same(prompt), Asset(method, prompt, 0, None)), prompt=prompt)
                for prompt in prompts
            ]
            for name, prompts in sets.items()
        }
        for method, there in by_method.items()
    }


def own_prompts(assets: Sequence[Asset]) -> dict[str, list[str]]:
    """One set of all prompts that assets were made of."""
    return {OWN: sorted({_same(asset.prompt): asset.prompt for asset in assets}.values())}


def _same(prompt: str) -> str:
    return prompt.strip().lower()
