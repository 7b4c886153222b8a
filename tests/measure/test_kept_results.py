"""What bench/results holds: whole tables that say nothing twice, and the figures that the pages print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfgs.measure.ablations import BASE
from rfgs.measure.records import read_records
from rfgs.measure.rows import read_rows, write_rows
from rfgs.measure.table import costs_text, differences_text, effects, table, table_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.jsonl")), ids=lambda path: path.stem)
def test_a_table_is_whole_and_says_nothing_twice(path: Path, tmp_path: Path) -> None:
    rows = read_rows(path)
    assert rows and path.read_bytes().endswith(b"\n")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    shared = [json.dumps({**line, "shared": 0}) for line in lines if "shared" in line]
    assert len(set(shared)) == len(shared)
    write_rows(tmp_path / "copy.jsonl", rows)
    # By their text, since NaN is not equal to itself.
    assert list(map(repr, read_rows(tmp_path / "copy.jsonl"))) == list(map(repr, rows))


def test_the_methods_page_prints_what_the_table_holds() -> None:
    records = read_records(RESULTS / "table")
    shown = (
        table_text(table(records, "iou"), 3),
        table_text(table(records, "psnr")),
        differences_text(records),
        costs_text(records),
    )
    for text in shown:
        assert text in PAGE
    # What the text says of the longer runs.
    longer = table(read_records(RESULTS / "normal"), "iou")["tiny-sd3:rfds"]["average"]
    assert f"has {longer.mean:.3f} [{longer.low:.3f}, {longer.high:.3f}]" in " ".join(PAGE.split())


def test_the_methods_page_prints_the_effects_of_the_ablations() -> None:
    found = effects(read_records(RESULTS / "ablations"), BASE.name, "exact")
    assert len(found) == 32
    for name, effect in found.items():
        assert f"| {name:18} | {effect!s:20} |" in PAGE


def test_the_methods_page_prints_what_the_same_trials_gave() -> None:
    """Each line that names a model, a guidance, a quality and an arm has the means over the prompts that all arms have."""
    rows = [row for row in read_rows(RESULTS / "trials.jsonl") if row["seed"] == 0]
    prompts = {row["prompt"] for row in rows if row["arm"] == "sds:low"}
    section = PAGE[PAGE.index("## The same trials for each method") :].split("\n## ")[0].replace("*", "")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "`" in line]
    checked = set()
    for model, guidance, quality, arm, *cells in (cells for cells in lines if len(cells) > 6):
        named = (model.strip("`"), quality, f"{guidance}:{arm}")
        own = [row for row in rows if (row["model"], row["quality"], row["arm"]) == named]
        own = [row for row in own if row["prompt"] in prompts]
        assert {row["prompt"] for row in own} == prompts and len(own) == 8, named
        for name, digits, cell in zip(("iou", "psnr", "edges"), (3, 1, 3), cells, strict=False):
            mean = sum(row[name] for row in own) / len(own)
            assert abs(float(cell.split(" ")[0]) - mean) < 0.51 * 10**-digits, (named, name)
        checked.add(named)
    assert len(checked) > 40


@pytest.mark.parametrize(
    ("quality", "arms"),
    [
        ("draft", "high-fall high-half high low-fall long-fall long-half long long-soft open".split()),
        ("normal", "high-fall long-fall long-half".split()),
    ],
)
def test_the_noise_page_prints_what_the_trials_gave(quality: str, arms: list[str]) -> None:
    rows = [row for row in read_rows(RESULTS / "edges.jsonl") if row["quality"] == quality]
    page = (ROOT / "docs" / "noise.md").read_text(encoding="utf-8").replace("*", "")
    table = page[page.index(f"| {quality} | ") :].split("\n\n")[0].splitlines()[2:]
    assert [line.split("|")[1].split(",")[0].strip() for line in table] == arms
    for arm, line in zip(arms, table, strict=True):
        own = [row for row in rows if row["arm"] == arm]
        assert len({row["prompt"] for row in own}) == len(own) == 16
        cells = [cell.strip() for cell in line.split("|")]
        for name, digits in (("iou", 3), ("psnr", 1), ("edges", 3)):
            assert f"{sum(row[name] for row in own) / 16:.{digits}f}" in cells


@pytest.mark.parametrize("quality", ["draft", "normal"])
def test_the_noise_page_prints_what_guidance_gave_under_the_exact_prior(quality: str) -> None:
    rows = [
        row
        for row in read_rows(RESULTS / "exact_guided.jsonl")
        if (row["quality"], row["seed"]) == (quality, 0)
    ]
    page = (ROOT / "docs" / "noise.md").read_text(encoding="utf-8").replace("*", "").replace(",", "")
    for arm, said in (("open-settle", f"| {quality} 1 |"), ("exact-guided", f"| {quality} 2 to 1 |")):
        own = [row for row in rows if row["arm"] == arm]
        assert len({row["prompt"] for row in own}) == len(own) == 12
        (line,) = [line for line in page.splitlines() if line.startswith(said)]
        cells = [cell.strip() for cell in line.split("|")]
        for name, digits in (("iou", 3), ("psnr", 1), ("edges", 3), ("evaluations", 0)):
            assert f"{sum(row[name] for row in own) / 12:.{digits}f}" in cells


@pytest.mark.parametrize(
    ("model", "arms"),
    [
        (
            "tiny-sd3",
            {"long-half": "| none |", "long-opaque-late": "| 1 from 60 % of", "long-opaque": "| 1 from 30 %"},
        ),
        ("tiny-exact", {"exact-guided": "| none |", "exact-opaque": "| 1 from 60 % on |"}),
    ],
)
def test_the_noise_page_prints_what_a_pull_on_alphas_gave(model: str, arms: dict[str, str]) -> None:
    rows = [row for row in read_rows(RESULTS / "opaque.jsonl") if row["model"] == model]
    page = (ROOT / "docs" / "noise.md").read_text(encoding="utf-8").replace("*", "")
    start = (
        page.index("Under the exact prior, RFDS at", page.index("## Opaque"))
        if model == "tiny-exact"
        else page.index("## Opaque")
    )
    for arm, said in arms.items():
        own = [row for row in rows if row["arm"] == arm]
        assert len({row["prompt"] for row in own}) == len(own) == (12 if model == "tiny-exact" else 16)
        line = page[page.index(said, start) :].splitlines()[0]
        cells = [cell.strip() for cell in line.split("|")]
        for name, digits in (("iou", 3), ("psnr", 1), ("edges", 3)):
            assert f"{sum(row[name] for row in own) / len(own):.{digits}f}" in cells
