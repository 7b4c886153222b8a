"""Which folder is whose, and how far it is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.runs import folders
from rfgs.runs.batch.plan import Asset, distinct, name_of, state_of, states
from rfgs.runs.job import Job

JOB = Job("a red mug", guidance="rfds", settings={"steps": 3, "noise_range": (0.1, 0.9)})


def test_a_name_says_all_that_tells_an_asset_from_others() -> None:
    assert name_of("a red mug", 3, {}) == "a-red-mug-3"
    others = [
        ("A red mug", {}),
        ("a red  mug!", {}),
        ("a red mug", {"steps": "3"}),
        ("a red mug", {"steps": "4"}),
    ]
    names = [name_of(prompt, 3, own) for prompt, own in others]
    assert len({*names, "a-red-mug-3"}) == 5
    assert all(name.startswith("a-red-mug-") and name.endswith("-3") for name in names)
    long = "a red mug " * 20
    assert name_of(long + "on sand", 0, {}) != name_of(long + "in snow", 0, {})


def test_what_is_asked_for_twice_is_made_once(tmp_path: Path) -> None:
    one, other = Asset(JOB, tmp_path / "a-0"), Asset(JOB, tmp_path / "b-0")
    assert distinct([one, other, one]) == [one, other]


def test_states(tmp_path: Path) -> None:
    asset = Asset(JOB, tmp_path / "batch" / "a-red-mug-0")
    assert states(tmp_path / "batch", [asset]) == ["open"]
    asset.folder.mkdir(parents=True)
    assert states(tmp_path / "batch", [asset]) == ["open"]
    folders.note_job(asset.folder, JOB)
    assert states(tmp_path / "batch", [asset]) == ["begun"]
    record = {"state": "finished", "steps_done": 3, "config": {"steps": 3}, "job": asdict(JOB)}

    def write(**more: object) -> None:
        (asset.folder / "run.json").write_text(json.dumps({**record, **more}))

    write()
    assert state_of(asset) == "begun"  # Its files are not there.
    for name in (folders.SPLATS, folders.VIDEO, folders.STRIP):
        (asset.folder / name).touch()
    assert state_of(asset) == "done"
    assert state_of(replace(asset, score="truth")) == "begun"
    write(scores={"truth": 20.0})
    assert state_of(replace(asset, score="truth")) == "done"
    assert state_of(replace(asset, job=replace(JOB, device="cuda"))) == "done"
    write(kept=False)
    (asset.folder / folders.SPLATS).unlink()
    assert state_of(asset) == "dropped"
    other = replace(JOB, guidance="rfds-rev", settings={"steps": 4, "noise_range": (0.1, 0.9)})
    with pytest.raises(
        UserError, match=r"a run with other settings \(guidance, steps\); choose another folder"
    ):
        state_of(replace(asset, job=other))
    (asset.folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="missing or damaged"):
        state_of(asset)
