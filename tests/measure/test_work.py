"""`rfgs bench` as its user types it, on the embedded model and an untrained scorer: made, resumed, shared, reported."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rfgs.cli.bench import report
from rfgs.cli.main import main
from rfgs.distill import distill
from rfgs.distill.recipes import recipe
from rfgs.export import read_ply
from rfgs.measure import work as bench_work
from rfgs.measure.plan import BOUNDS, Column, Run, plan
from rfgs.measure.records import asset_path, read_records, replace_record, table_path
from rfgs.measure.remaining import claim
from rfgs.measure.rows import append_row, read_rows
from rfgs.measure.work import Judge, rescore, work
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype
from rfgs.splats import Splats, ball, without_haze
from rfgs.tinyworld import scorer as scorer_module
from rfgs.tinyworld import scorer_views, truth
from rfgs.tinyworld.asset_views import asset_views
from rfgs.tinyworld.language import caption
from rfgs.tinyworld.prompts import held_out_scenes
from training.train_scorer import export, new_net

TINY = {"steps": 2, "views_per_step": 1, "splats": 60, "densify": "none"}


def write_scorer(folder: Path, seed: int) -> Path:
    """An untrained scorer."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"average": new_net().state_dict()}, folder / "checkpoint.pt")
    export(folder / "checkpoint.pt", folder)
    return folder


@pytest.fixture(autouse=True)
def _short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_work.QUALITIES, "normal", TINY)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _few_views() -> Iterator[None]:
    """The truth from 8 of its 32 views and in 3 of its 5 sizes, which are kept for the tests of this file; the score from a
    quarter of its views; and fits to 4 views."""
    fewer = functools.partial(asset_views, subdivisions=1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (scorer_module, scorer_views, bench_work):
            patch.setattr(module, "asset_views", fewer)
        patch.setattr(truth, "fit_truth", functools.partial(truth.fit_truth, pool=4))
        patch.setattr(truth, "VIEWS", truth.VIEWS[::4])
        patch.setattr(truth, "FRACTIONS", truth.FRACTIONS[::2])
        patch.setattr(truth, "true_views", functools.cache(truth.true_views.__wrapped__))
        yield


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scorer(tmp_path_factory.mktemp("scorer"), 0)


def command(scorer: Path, folder: Path, *more: str) -> list[str]:
    return [
        *(
            "bench",
            "--output",
            str(folder),
            "--scorer",
            str(scorer),
            "--columns",
            "tiny-sd3:rfds",
            "tiny-sd3:rfds-vsd",
        ),
        *(
            "--sets",
            "single",
            "--prompts",
            "2",
            "--steps",
            "2",
            "--set",
            "splats=60",
            "--set",
            "views_per_step=1",
        ),
        *("--set", "tiny-sd3:rfds.lr_means=0.02", *more),
    ]


def test_from_nothing_to_the_table_and_on(
    scorer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(command(scorer, tmp_path, "--part", "1/2"))
    assert "tiny-sd3 RFDS" in capsys.readouterr().out
    some = table_path(tmp_path).read_bytes()
    assert len(read_rows(table_path(tmp_path))) == 6
    for name in ("cpu", "versions", "git_commit", "config"):
        assert some.count(f'"{name}"'.encode()) == 1
    main(command(scorer, tmp_path))
    out = capsys.readouterr().out
    assert "6 of 12 runs are done already" in out and "| Single " in out and "| Average " in out
    assert table_path(tmp_path).read_bytes().startswith(some)
    records = read_records(tmp_path)
    assert len(records) == 12

    record = next(r for r in records if r["run"]["column"] == "tiny-sd3:rfds-vsd")
    assert record["run"]["settings"] == {} and record["run"]["views_per_step"] == 1
    assert record["evaluations"]["backward"] > 0 and record["seconds"]["total"] > record["seconds"]["prior"]
    assert record["config"]["guidance_scale"] == 1.5 and record["config"]["steps"] == 2
    assert set(record["truth"]) == {"iou", "psnr", "edges", "janus"} and 0 <= record["truth"]["iou"] < 0.9
    assert "Truth: IoU" in out and out.index("Truth: PSNR") < out.index("Score, 0 to 100")
    assert "decisiveness" not in out
    bounds = {r["run"]["column"]: r["truth"] for r in records if r["run"]["prompt"] == "a white donut"}
    assert bounds["truth"]["iou"] > 0.97 and bounds["truth"]["psnr"] > 25
    assert bounds["wrong"]["iou"] < 0.9 and bounds["wrong"]["psnr"] < 20
    assert set(record["score"]) == {"score", "exact", "peak", "top1", "rank", "similarity"}
    assert {"versions", "cpu", "git_commit", "threads", "scorer", "finished"} <= set(record)
    record = next(r for r in records if r["run"]["column"] == "tiny-sd3:rfds")
    assert record["run"]["settings"] == {"lr_means": 0.02} and record["config"]["lr_means"] == 0.02

    for name in ("table.png", "sheet.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 0
    (tmp_path / "table.md").unlink()
    main(["bench", "--report", str(tmp_path)])
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command(scorer, tmp_path), "--steps", "3"])
    assert "run with other settings (steps); choose another folder" in capsys.readouterr().err


def test_what_another_process_did_meanwhile_or_is_doing_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan([Column("world", "rfds", label="start")], {"single": ["a white donut"]}, 3, TINY)
    done = []

    def do(run: Run, folder: Path, *_) -> dict:
        done.append(run.seed)
        for one in (run, runs[2]):  # The last one is another process's.
            append_row(table_path(folder), {"run": asdict(one)})
        return {"truth": {}, "score": {}, "seconds": {"total": 0.0}}

    monkeypatch.setattr(bench_work, "do", do)
    with claim(table_path(tmp_path), runs[0].key) as mine:
        assert mine and work(runs, tmp_path, None, say=lambda line: None) == 1  # type: ignore[arg-type]
    assert done == [1]
    assert work(runs, tmp_path, None, say=lambda line: None) == 1 and done == [1, 0]  # type: ignore[arg-type]


def test_an_asset_is_the_loops_own(scorer: Path, tmp_path: Path) -> None:
    start = {"start_radius": 0.4, "start_opacity": 0.06}
    (run,) = plan([Column("tiny-sd3", "rfds", start)], {"single": ["a white donut"]}, 1, TINY)
    assert work([run], tmp_path, Judge(scorer), say=lambda line: None) == 1
    prior = load_prior("tiny-sd3", dtype=distillation_dtype("cpu"))
    config = recipe(prior, "rfds")
    config.steps, config.views_per_step, config.resolution = 2, 1, prior.image_size
    generator = torch.Generator().manual_seed(0)
    splats = ball(60, 0.4, generator=generator, opacity=0.06)
    *_, last = distill("a white donut", prior, splats, config, generator=generator)
    made = read_ply(asset_path(tmp_path, run))
    # Some have become haze on the way, and are left out.
    assert 0 < len(made) < len(last.splats) == 60
    torch.testing.assert_close(made.means, without_haze(last.splats.detach()).means)


def test_a_run_starts_where_runs_of_generate_do() -> None:
    (run,) = plan([Column("tiny-sd3", "rfds")], {"single": ["a white donut"]}, 1, TINY)
    expected = ball(60, 0.7, generator=torch.Generator().manual_seed(0), opacity=0.1)
    assert torch.equal(bench_work.first_splats(run).means, expected.means)
    assert torch.equal(bench_work.first_splats(run).opacities, expected.opacities)


def test_what_is_fitted_to_the_truth_has_no_haze_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def faded(look: object, start: Splats, *_: object, **__: object) -> Splats:
        start.logit_opacities[:20] = torch.tensor(1e-3).logit()
        return start

    monkeypatch.setattr(truth, "fit_truth", faded)
    bench_work._fitted.cache_clear()
    assert len(bench_work._fitted("a white donut", 0, 60)) == 40
    bench_work._fitted.cache_clear()


def test_a_second_guidance_has_the_second_half(scorer: Path, tmp_path: Path) -> None:
    column = Column("tiny-sd3", "rfds-rev", {"second_guidance": "rfds"})
    (run,) = plan([column], {"single": ["a white donut"]}, 1, TINY)
    work([run], tmp_path, Judge(scorer), say=lambda line: None)
    (record,) = read_records(tmp_path)
    assert record["evaluations"]["forward"] == 3 + 2 and record["config"]["guidance"] == "rfds-rev"


def test_bounds_show_what_they_say(scorer: Path) -> None:
    judge = Judge(scorer)
    seen = []
    embed = judge.scorer.embed_images
    judge.scorer.embed_images = lambda images: seen.append(images) or embed(images)  # type: ignore
    first, second = (caption(scene) for scene in held_out_scenes("single")[:2])
    columns = [Column("world", "rfds", label=name) for name in ("truth", "wrong")]
    for run in plan(columns, {"single": [first, second]}, 1, TINY):
        judge.bound(run)
    # Each embedded once, for both scores: first's truth, first's wrong, second's truth, second's wrong.
    assert len(seen) == 4
    assert torch.equal(seen[1], seen[2]) and not torch.equal(seen[0], seen[1])


def _score():
    from rfgs.tinyworld.scorer import AssetScore

    return AssetScore(1, 1, 1, 1, 1, torch.ones(1))


def test_open_prompts_have_decisiveness_and_bounds(scorer: Path, tmp_path: Path) -> None:
    columns = [Column("tiny-sd3", "rfds"), *(Column("world", "rfds", label=name) for name in BOUNDS)]
    runs = plan(columns, {"open": ["a sphere"]}, 1, TINY)
    work(runs, tmp_path, Judge(scorer), say=lambda line: None)
    found = {record["run"]["column"]: record for record in read_records(tmp_path)}
    assert set(found) == {"tiny-sd3:rfds", *BOUNDS}
    for record in found.values():
        # A sphere looks alike from all around, and has no wrong sides.
        assert set(record["truth"]) == {"iou", "psnr", "edges", "decisiveness"}
        assert "exact" not in record["score"]
    assert found["truth"]["truth"]["decisiveness"] > 0.95 > found["start"]["truth"]["decisiveness"]
    assert "Truth: decisiveness" in report(tmp_path)


def test_records_of_before_the_truth_are_printed_and_measured(scorer: Path, tmp_path: Path) -> None:
    (run,) = plan([Column("tiny-sd3", "rfds")], {"single": ["a white donut"]}, 1, TINY)
    judge = Judge(scorer)
    work([run], tmp_path, judge, say=lambda line: None)
    (record,) = read_records(tmp_path)
    true = record.pop("truth")
    replace_record(tmp_path, record)
    assert "Truth" not in report(tmp_path)
    assert rescore(tmp_path, judge, lambda line: None) == 1
    assert read_records(tmp_path)[0]["truth"] == pytest.approx(true, abs=1e-4)
    assert "Truth: IoU" in report(tmp_path)


def test_prompts_of_another_world_have_no_truth(scorer: Path) -> None:
    (run,) = plan([Column("tiny-sd3", "rfds")], {"single": ["a zebra"]}, 1, TINY)
    assert Judge(scorer).truth(ball(10, 0.5, generator=torch.Generator()), run) == {}


def test_splats_that_are_no_numbers_are_not_seen(scorer: Path) -> None:
    judge = Judge(scorer)
    (run,) = plan([Column("tiny-sd3", "rfds")], {"single": ["a white donut"]}, 1, TINY)
    splats = ball(50, 0.5, generator=torch.Generator().manual_seed(0))
    whole = judge.splats(splats.select(slice(10, 50)), run)
    splats.means[:10, 1] = torch.nan
    assert judge.splats(splats, run) == whole
    splats.sh0[:] = torch.inf
    assert judge.splats(splats, run)["score"] == 0 and judge.truth(splats, run)["iou"] == 0


def test_another_scorer_scores_again(scorer: Path, tmp_path: Path) -> None:
    columns = [Column("tiny-sd3", "rfds"), Column("world", "rfds", label="start")]
    runs = plan(columns, {"single": ["a white donut"]}, 1, TINY)
    work(runs, tmp_path / "results", Judge(scorer), say=lambda line: None)
    before = read_records(tmp_path / "results")
    other = Judge(write_scorer(tmp_path / "scorer", 1))
    assert rescore(tmp_path / "results", other, lambda line: None) == 2
    assert rescore(tmp_path / "results", other, lambda line: None) == 0
    for old, new in zip(before, read_records(tmp_path / "results"), strict=True):
        assert new["scorer"] == other.identity != old["scorer"]
        assert new["score"] != old["score"] and new["run"] == old["run"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--columns", "tiny-sd3:sds2"], "--columns tiny-sd3:sds2: is not MODEL:GUIDANCE"),
        (["--set", "magic=1"], "--set magic=1: there is no setting magic"),
        (
            ["--columns", "tiny-sd3:rfds", "--set", "tiny-sd:sds.lr_means=1"],
            "tiny-sd:sds is not one of the columns",
        ),
        (["--ablations", "--columns", "tiny-sd3:rfds"], "--columns: --ablations has columns of its own"),
        (["--prompts", "0"], "--prompts 0: has to be at least 1"),
        (["--report", "nowhere"], "nowhere: holds no results"),
        (["--part", "3/2"], "--part 3/2: is not K/N"),
    ],
)
def test_what_a_user_can_mend(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", *flags])
    assert message in capsys.readouterr().err


def test_prompts_that_the_scorer_does_not_know_do_not_compete_and_get_no_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = Judge.__new__(Judge)
    prompts = ["a red mug", "a wooden mug", "a unicorn"]
    judge.scorer = SimpleNamespace(known=lambda some: [p for p in some if "wooden" not in p])
    monkeypatch.setattr(bench_work, "read_prompts", lambda sets: {"single": prompts})
    run = SimpleNamespace(prompt_set="single", prompt="a wooden mug")
    assert judge.views(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1), run) == {}
    assert bench_work._scored({}) == "" and bench_work._scored({"score": 71.25}) == "score 71.2, "
