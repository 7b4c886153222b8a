"""Judging many assets by T3Bench's protocol: what is judged already is kept in a table, and the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from rfgs.errors import UserError
from rfgs.measure import t3bench
from rfgs.measure.captions import Captioner, Judge, points
from rfgs.measure.image_reward import load_image_reward
from rfgs.measure.markdown import markdown
from rfgs.measure.named import find_function, is_named
from rfgs.measure.remaining import remaining
from rfgs.measure.rows import append_row, made_by, read_rows
from rfgs.measure.t3assets import Asset
from rfgs.splats import Splats

TABLE = "t3bench.jsonl"
KEY = ("half", "asset", "prompt", "scorer")
NOT_COMPARABLE = "not comparable to published figures"


@dataclass(frozen=True)
class Means:
    """What judges, and by what name: rows of others in the table are not taken for theirs."""

    scorer: t3bench.Scorer
    name: str
    captioner: Captioner | None = None
    judge: Judge | None = None
    readers: str = ""
    """Names the captioner and the judge."""
    fit: bool = False
    size: int = t3bench.SIZE
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.captioner is None) != (self.judge is None):
            raise UserError("alignment needs --captioner and --judge; give both, or leave both out")

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores of a view depend on besides the asset, the prompt and the scorer."""
        return {"size": self.size, "fit": self.fit}


def load_scorer(text: str | None, *, device: str = "cpu") -> tuple[t3bench.Scorer, str]:
    """A scorer and its name: ImageReward from the hub (None) or a folder, or a "module:function".

    Raises:
        UserError: it cannot be loaded.
    """
    if text is not None and is_named(text):
        return find_function("--scorer", text), text
    return load_image_reward(None if text is None else Path(text), device=device)


def judge_all(
    chosen: dict[str, dict[str, list[Asset]]],
    means: Means,
    table: Path,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Judges all assets that the table has no row of, one row each; may be stopped at any time, and resumed.

    Several processes may fill one table at once: each asset is judged by one of them. An asset that cannot be read counts as
    missing, and a line says so. Black pictures are judged once a prompt.
    """
    machine = made_by(torch.cuda.get_device_name() if means.device == "cuda" else None)
    every = [asset for sets in chosen.values() for assets in sets.values() for asset in assets]
    wanted: dict[tuple[Any, ...], tuple[int, str, Asset]] = {}
    for number, asset in enumerate(every, 1):
        for half in ("quality", "alignment") if means.judge else ("quality",):
            wanted.setdefault(_key_of(half, asset, means), (number, half, asset))
    for key, (number, half, asset) in remaining(table, wanted, _key):
        row = dict(zip(KEY, key, strict=False))  # The settings come after them.
        judged = _judged(half, _splats(asset, means, say), asset.prompt, means)
        append_row(table, {**row, "settings": means.settings, **judged, **machine})
        if asset.path and half == "quality":
            say(
                f"{number}/{len(every)} {asset.method}, {asset.prompt!r}: {_quality(judged):.1f} ({asset.path})"
            )


def _key_of(half: str, asset: Asset, means: Means) -> tuple[Any, ...]:
    judges = means.name if half == "quality" else means.readers
    return half, t3bench.fingerprint(asset.path), asset.prompt, judges, str(means.settings)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*(row.get(name) for name in KEY), str(row.get("settings")))


def _splats(asset: Asset, means: Means, say: Callable[[str], None]) -> Splats | None:
    if asset.path is None:
        return None
    try:
        return t3bench.asset(asset.path, fit=means.fit, device=means.device)
    except UserError as error:
        say(f"counts as missing: {error}")
        return None


def _judged(half: str, splats: Splats | None, prompt: str, means: Means) -> dict[str, Any]:
    if half == "quality":
        scores = t3bench.score_views(splats, prompt, means.scorer, size=means.size)
        if splats is None:  # All black pictures are one.
            return {"scores": round(float(scores[0, 0]), 6)}
        return {"scores": [[round(score, 6) for score in vertex] for vertex in scores.tolist()]}
    assert means.captioner is not None and means.judge is not None
    shown = t3bench.pictures(splats, t3bench.caption_views(means.size))
    found, caption = points(shown, prompt, means.captioner, means.judge)
    return {"points": found, "caption": caption}


def _quality(row: dict[str, Any]) -> float:
    return t3bench.quality(torch.tensor(row["scores"]).expand(t3bench.VERTICES, len(t3bench.FOVS)))


def report(chosen: dict[str, dict[str, list[Asset]]], means: Means, table: Path) -> str:
    """The figures of all that is judged: a row for each method, a column for each set, and what they leave out, by name."""
    rows = {_key(row): row for row in read_rows(table)}

    def found(half: str, assets: Sequence[Asset]) -> list[dict[str, Any]]:
        keys = [_key_of(half, asset, means) for asset in assets]
        return [rows[key] for key in keys if key in rows]

    names = list(dict.fromkeys(name for sets in chosen.values() for name in sets))
    left = asked = 0
    lines = [["quality", *names, "missing"]]
    aligned = [[f"alignment, {NOT_COMPARABLE}", *names, "unread"]]
    for method, sets in chosen.items():
        values = [[_quality(row) for row in found("quality", sets[n])] for n in names]
        missing = sum(asset.path is None for assets in sets.values() for asset in assets)
        total = sum(map(len, sets.values()))
        left, asked = left + total - sum(map(len, values)), asked + total
        lines.append([method, *[f"{mean(v):.1f}" if v else "–" for v in values], f"{missing} of {total}"])
        given = [[r["points"] for r in found("alignment", sets[n])] for n in names]
        marks = [[t3bench.alignment(p) for p in one if p is not None] for one in given]
        unread = sum(one.count(None) for one in given)
        aligned.append([method, *[f"{mean(m):.1f}" if m else "–" for m in marks], str(unread)])
    moved = "centered and scaled as T3Bench does meshes" if means.fit else "where they lie"
    said = [
        markdown(lines),
        f"Quality: T3Bench's protocol with {means.name}, of splats rendered themselves, {moved}; T3Bench renders meshes. A "
        "missing asset counts as black pictures.",
    ]
    if left:
        said.append(
            f"{left} of {asked} not judged yet: another process is at work on them, and they are left out here."
        )
    if means.judge is None:
        said.append("Alignment: left out; it needs --captioner and --judge.")
    else:
        said += [
            markdown(aligned),
            f"Alignment: by {means.readers}; {NOT_COMPARABLE}, which GPT-4 of 2023 judged.",
        ]
    return "\n\n".join(said)
