"""What is kept of several seeds, and what can be scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from rfgs.errors import UserError
from rfgs.export import write_ply
from rfgs.runs import folders
from rfgs.runs.batch.best import check_score, keep, note_score, score
from rfgs.runs.batch.page import write_page
from rfgs.runs.batch.plan import Asset, state_of
from rfgs.runs.job import Job
from rfgs.splats import ball
from rfgs.tinyworld import truth


def finished(folder: Path, prompt: str, seed: int, value: float | None) -> Asset:
    asset = Asset(Job(prompt, seed=seed), folder / f"{folders.slug(prompt)}-{seed}", "truth")
    (asset.folder / folders.SNAPSHOTS).mkdir(parents=True)
    for name in (folders.SPLATS, folders.VIDEO, folders.STRIP, f"{folders.SNAPSHOTS}/step-000001.ply"):
        (asset.folder / name).touch()
    record = {
        "state": "finished",
        "steps_done": 1,
        "job": asdict(asset.job),
        "seconds": {"prior": 2.0},
        "splats": 9,
    }
    scores = {} if value is None else {"scores": {"truth": value}}
    (asset.folder / folders.RECORD).write_text(json.dumps({**record, **scores}))
    return asset


def test_the_best_seeds_of_each_whole_prompt_stay(tmp_path: Path) -> None:
    cats = [finished(tmp_path, "a cat", seed, value) for seed, value in enumerate((10.0, 30.0, 20.0))]
    dogs = [finished(tmp_path, "a dog", seed, value) for seed, value in enumerate((10.0, None))]
    every = [*cats, *dogs]
    assert keep(every, 2, folders.read_record) == [cats[0]]
    assert [state_of(asset) for asset in every] == ["dropped", "done", "done", "done", "begun"]
    assert sorted(path.name for path in cats[0].folder.iterdir()) == ["run.json", "turntable.png"]
    assert keep(every, 2, folders.read_record) == []
    page = write_page(tmp_path, every, {dogs[1].folder: "no <room>"}, folders.read_record).read_text()
    assert page.count("<figure") == 5 and page.count("not kept") == 1 and "2.0 s, 9 splats, truth 30" in page
    assert 'href="a-cat-1/splats.ply"' in page and 'href="a-cat-0/splats.ply"' not in page


def test_a_page_tells_what_was_not_made(tmp_path: Path) -> None:
    asset = Asset(Job("a <b> cat"), tmp_path / "a-b-cat-0")
    page = write_page(tmp_path, [asset], {asset.folder: "no <room>"}, lambda folder: {}).read_text()
    assert "0 of 1 made" in page and "a &lt;b&gt; cat, seed 0" in page and "no &lt;room&gt;" in page


def test_what_can_be_scored() -> None:
    check_score({"line 1": "a red mug", "line 2": "a cactus"}, "truth")
    check_score({"line 1": "a red mug"}, "scorer")
    for name in ("truth", "scorer"):
        with pytest.raises(
            UserError, match="line 2: --keep-best: 'zebra' is not a thing .* truth and scorer score"
        ):
            check_score({"line 1": "a red mug", "line 2": "a zebra"}, name)


def test_scores_are_the_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "VIEWS", truth.VIEWS[::16])
    monkeypatch.setattr(truth, "FRACTIONS", truth.FRACTIONS[::4])
    monkeypatch.setattr(truth, "true_views", truth.true_views.__wrapped__)
    asset = finished(tmp_path, "a red sphere", 0, None)
    splats = ball(200, 0.7, generator=torch.Generator().manual_seed(0))
    write_ply(splats, asset.folder / folders.SPLATS)
    note_score(asset)
    noted = folders.read_record(asset.folder)["scores"]["truth"]
    assert noted == pytest.approx(truth.measure(splats, "a red sphere").psnr, abs=1e-3)
    assert -1 <= score(splats, "a red sphere", "scorer") <= 1
    splats.means[:] = torch.nan
    assert score(splats, "a red sphere", "truth") == float("-inf")
