"""The best of several seeds of a prompt, by a score, for prompts of the world that the small models know. No torch above."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rfgs.errors import UserError
from rfgs.runs import folders
from rfgs.runs.batch.plan import Asset

if TYPE_CHECKING:
    from rfgs.splats import Splats

ScoreName = Literal["truth", "scorer"]

SCORES: dict[str, str] = {
    "truth": "PSNR against the small world's own geometry, dB (docs/truth.md)",
    "scorer": "mean cosine of the asset's views with its prompt, by the scorer that ships (docs/scorer.md)",
}
"""What there is to score by; more is better. Both know the world of the small models only."""


def check_score(prompts: dict[str, str], name: str) -> None:
    """That a score can be told of assets of these prompts, each under what messages call it.

    Raises:
        UserError: one is not of the small world, or of another than the scorer was trained on.
    """
    from rfgs.tinyworld.language import UnknownThing, parse

    scorer = None
    if name == "scorer":
        from rfgs.tinyworld.scorer import load_scorer

        scorer = load_scorer()
    for where, prompt in prompts.items():
        try:
            parse(prompt)
        except UnknownThing as error:
            raise UserError(
                f"{where}: --keep-best: {error}, and {' and '.join(SCORES)} score nothing else; leave out the prompt, or "
                "--keep-best"
            ) from error
        if scorer is not None and not scorer.known([prompt]):
            raise UserError(
                f"{where}: --score scorer: the scorer does not know all of its words; use --score truth"
            )


def score(splats: Splats, prompt: str, name: str) -> float:
    """How good an asset is; minus infinity where none of its splats is finite."""
    splats = splats.select(splats.are_finite())
    if not len(splats):
        return float("-inf")
    if name == "truth":
        from rfgs.tinyworld import truth

        return truth.measure(splats, prompt).psnr
    from rfgs.tinyworld.scorer import asset_pictures, load_scorer

    return float(load_scorer().similarity(asset_pictures(splats)[0], [prompt]).mean())


def note_score(asset: Asset) -> None:
    """Scores a finished asset, and writes that into its record."""
    from rfgs.export import read_ply

    value = score(read_ply(asset.folder / folders.SPLATS), asset.job.prompt, asset.score)
    record = folders.read_record(asset.folder)
    folders.write_record(asset.folder, {**record, "scores": {**record.get("scores", {}), asset.score: value}})


def keep(assets: Sequence[Asset], best: int, read: Callable[[Path], dict[str, Any]]) -> list[Asset]:
    """Removes the files of all but the `best` seeds of each prompt that has all of its seeds made; returns what it removed.

    A record and the picture stay, so that they are not made again.

    Args:
        read: a record by its folder.
    """
    groups: dict[str, list[Asset]] = {}
    for asset in assets:
        # A folder's name ends in the seed.
        groups.setdefault(asset.folder.name.rpartition("-")[0], []).append(asset)
    removed = []
    for group in groups.values():
        records = {asset.folder: read(asset.folder) for asset in group}
        if not all(asset.score in records[asset.folder].get("scores", {}) for asset in group):
            continue
        ranked = sorted(group, key=lambda asset: -records[asset.folder]["scores"][asset.score])
        for asset in ranked[best:]:
            if records[asset.folder].get("kept") is not False:
                # First the record: without it, a run whose files are gone would be made again.
                folders.write_record(asset.folder, {**records[asset.folder], "kept": False})
                _remove(asset.folder)
                removed.append(asset)
    return removed


def _remove(folder: Path) -> None:
    for name in (folders.CHECKPOINT, folders.CHECKPOINT_BEFORE, folders.SPLATS, folders.VIDEO):
        (folder / name).unlink(missing_ok=True)
    for name in (folders.PREVIEWS, folders.SNAPSHOTS):
        shutil.rmtree(folder / name, ignore_errors=True)
