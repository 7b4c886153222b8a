"""Figures from records: intervals against what is known of them, the layout, effects, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfgs.errors import UserError
from rfgs.measure.markdown import markdown
from rfgs.measure.sheets import COLORS, write_plot
from rfgs.measure.table import (
    Figure,
    best,
    costs_text,
    effects,
    figure,
    measured,
    table,
    table_text,
    warnings,
)


def record(column: str, prompt_set: str, prompt: str, seed: int, score: float, **others) -> dict:
    return {
        "run": {"column": column, "prompt_set": prompt_set, "prompt": prompt, "seed": seed},
        "score": {"score": score},
        "scorer": "one",
        "git_commit": "abc",
        "seconds": {"total": 2.0},
        "evaluations": {"forward": 10},
        "splats": 7,
        **others,
    }


def test_an_interval_of_many_prompts_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    means = rng.normal(50, 10, size=400)
    found = figure([{str(i): [mean - 3, mean + 3] for i, mean in enumerate(means)}])
    half = 1.96 * means.std() / math.sqrt(len(means))
    assert found.mean == pytest.approx(means.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert (found.prompts, found.runs) == (400, 800)


def test_seeds_of_a_prompt_are_no_further_evidence_about_prompts() -> None:
    once = figure([{"a": [0.0], "b": [100.0], "c": [50.0]}])
    often = figure([{"a": [0.0] * 9, "b": [100.0] * 9, "c": [50.0] * 9}])
    assert (once.low, once.high) == (often.low, often.high)
    # So does a prompt with more seeds count as any other.
    assert figure([{"a": [0.0] * 9, "b": [100.0]}]).mean == 50


def test_what_was_drawn_for_few_resamples_is_not_taken_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"a": [0.0], "b": [100.0], "c": [50.0], "d": [7.0]}]
    many = figure(values)
    monkeypatch.setattr("rfgs.measure.table.RESAMPLES", 10)
    few = figure(values)
    assert few.mean == many.mean and (few.low, few.high) != (many.low, many.high)


def test_the_average_gives_each_set_the_same_weight() -> None:
    found = figure([{"a": [0.0], "b": [0.0], "c": [0.0]}, {"d": [60.0], "e": [60.0]}])
    assert found == Figure(30, 30, 30, 5, 5)


def test_one_prompt_has_no_interval_and_none_has_nothing() -> None:
    assert str(figure([{"a": [12.0, 14.0]}])) == "13.0"
    assert str(figure([{"a": [1.0], "b": [1.0]}, {}])) == "-"
    assert str(figure([{"a": [10.0], "b": [10.0]}])) == "10.0 [10.0, 10.0]"


RECORDS = [
    record("truth", "single", "a", 0, 90),
    record("tiny-sd3:rfds-rev", "single", "a", 0, 40),
    record("tiny-sd3:rfds-rev", "single", "a", 1, 60),
    record("tiny-sd3:rfds-rev", "multiple", "b", 0, 20),
    record("tiny-sd:sds", "single", "a", 0, 10),
    record("mine", "single", "a", 0, 30),
]


def test_the_table_has_the_papers_layout() -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table_text(table(RECORDS)).split("\n")
    ]
    assert lines[0] == ["", "tiny-sd SDS", "tiny-sd3 RFDS-Rev", "mine", "truth"]
    assert lines[2:] == [
        ["Single", "10.0", "50.0", "30.0", "90.0"],
        ["Multiple", "-", "20.0", "-", "-"],
        ["Average", "-", "35.0", "-", "-"],
        ["Runs", "1 of 1 prompts", "3 of 2 prompts", "1 of 1 prompts", "1 of 1 prompts"],
    ]


def test_a_table_in_markdown() -> None:
    rows = [["a", "name"], ["x", 1.26], [3, None]]
    assert markdown(rows) == "| a | name |\n|---|------|\n| x | 1.3  |\n| 3 | –    |"


def test_a_table_of_many_columns_is_turned() -> None:
    records = [record(f"change-{i:02d}", "single", "a", 0, i) for i in range(20)]
    lines = table_text(table(records)).split("\n")
    assert len(lines) == 22 and "change-19" in lines[-1] and "Single" in lines[0]


def test_effects_are_differences_run_by_run() -> None:
    records = [record("base", "single", str(i), 0, 10 * i) for i in range(5)]
    records += [record("better", "single", str(i), 0, 10 * i + 2) for i in range(4)]
    records += [record("worse", "single", str(i), 0, 10 * i - 1) for i in range(5)]
    records += [record("better", "single", "0", 1, 1000)]  # The base has no such run.
    found = effects(records, "base")
    assert list(found) == ["better", "worse"]
    assert found["better"] == Figure(2, 2, 2, 4, 4) and found["worse"].mean == -1
    with pytest.raises(UserError, match="base: has no results yet"):
        effects(RECORDS, "base")


def test_the_best_is_a_method_and_has_results_everywhere() -> None:
    found = table(RECORDS)
    assert list(measured(found)) == ["tiny-sd3:rfds-rev"] and best(found) is None
    second = [record("mine", "multiple", "b", 0, 45)]
    # mine has 30 and 45 on average, RFDS-Rev 50 and 20, the world 90.
    everywhere = [*RECORDS, *second, record("truth", "multiple", "b", 0, 95)]
    assert best(table(everywhere)) == "mine"
    assert best(table(everywhere, "iou")) is None


def test_costs_and_warnings() -> None:
    assert "| mine              | 2              | 10 " in costs_text(RECORDS)
    assert "truth" not in costs_text(RECORDS)
    assert warnings(RECORDS) == []
    told = warnings([*RECORDS, record("mine", "single", "b", 0, 1, scorer="two", git_commit="def")])
    assert len(told) == 2 and "--rescore" in told[0] and "2 versions" in told[1]


def test_the_plot_shows_means_where_they_are(tmp_path: Path) -> None:
    def blue(score: float) -> float:
        write_plot(tmp_path / "plot.png", table([record("mine", "single", "a", 0, score)]))
        picture = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
        rows, columns = np.nonzero((picture == COLORS["single"]).all(axis=2))
        return float(rows[columns > columns.max() / 2].mean())  # The legend is on the left.

    assert blue(0.0) - blue(100.0) > 250
    assert blue(50.0) == pytest.approx((blue(0.0) + blue(100.0)) / 2, abs=1.5)
