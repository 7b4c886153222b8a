"""What is run, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rfgs.errors import UserError
from rfgs.measure.ablations import ABLATIONS, ablation_columns
from rfgs.measure.given import parse_settings
from rfgs.measure.plan import (
    BOUNDS,
    COLUMNS,
    Column,
    find_columns,
    part_of,
    plan,
    quality_of,
    read_prompts,
)
from rfgs.runs.job import QUALITIES

PROMPTS = {"single": ["a red mug", "a blue car"], "multiple": ["a mug on a car"]}
DRAFT = QUALITIES["draft"]


def test_columns_take_turns_so_that_a_stopped_benchmark_is_even() -> None:
    runs = plan(COLUMNS[:2], PROMPTS, 2, DRAFT)
    assert [(run.prompt, run.seed, run.guidance) for run in runs[:5]] == [
        ("a red mug", 0, "sds"),
        ("a red mug", 0, "vsd"),
        ("a mug on a car", 0, "sds"),
        ("a mug on a car", 0, "vsd"),
        ("a blue car", 0, "sds"),
    ]
    assert len(runs) == 12 and {run.seed for run in runs[6:]} == {1}
    assert len({run.key for run in runs}) == 12


def test_the_papers_table() -> None:
    assert [column.name for column in COLUMNS] == [
        "tiny-sd:sds",
        "tiny-sd:vsd",
        "tiny-instaflow:rfds",
        "tiny-instaflow:rfds-rev",
        "tiny-sd3:rfds",
        "tiny-sd3:rfds-rev",
        "tiny-sd3:rfds-vsd",
    ]
    assert find_columns([column.name for column in COLUMNS]) == list(COLUMNS)


def test_parts_make_the_whole() -> None:
    runs = plan(COLUMNS, PROMPTS, 2, DRAFT)
    parts = [part_of(runs, f"{part}/4") for part in range(1, 5)]
    assert sorted(map(str, sum(parts, []))) == sorted(map(str, runs))
    for wrong in ("0/2", "3/2", "half"):
        with pytest.raises(UserError, match=f"--part {wrong}: is not K/N"):
            part_of(runs, wrong)


def test_settings_of_a_run_are_its_own_fields_where_it_has_them() -> None:
    (run,) = plan(
        [Column("m", "rfds-rev", {"steps": 5, "guidance": "rfds", "lr_means": 1.0})],
        {"single": ["a"]},
        1,
        quality_of("high", 7),
    )
    assert (run.steps, run.guidance, run.settings) == (5, "rfds", {"lr_means": 1.0})
    assert run.splats == QUALITIES["high"]["splats"]


def test_bounds_do_not_depend_on_what_runs_beside_them() -> None:
    column = Column("world", "rfds", {"lr_means": 1.0}, label=next(iter(BOUNDS)))
    assert plan([column], PROMPTS, 1, DRAFT) == plan(
        [replace(column, settings={})], PROMPTS, 1, QUALITIES["high"]
    )


def test_prompts_are_those_that_ship() -> None:
    prompts = read_prompts(["single", "multiple"], 3)
    assert [len(names) for names in prompts.values()] == [3, 3]
    everything = read_prompts(["surroundings"])["surroundings"]
    assert len(everything) == 40
    assert read_prompts(["surroundings"], 3, skip=38) == {"surroundings": everything[38:]}
    for skip in (-1, 40):
        with pytest.raises(UserError, match=f"--skip {skip}: surroundings has 40 prompts"):
            read_prompts(["surroundings"], skip=skip)


def test_columns_that_are_none() -> None:
    for name in ("tiny-sd3", "tiny-sd3:magic"):
        with pytest.raises(UserError, match=f"--columns {name}: is not MODEL:GUIDANCE"):
            find_columns([name])


def test_settings_are_read_by_their_types() -> None:
    columns = find_columns(["tiny-sd:sds", "tiny-sd3:rfds-rev"])
    assert parse_settings(
        [
            "views_per_step=2",
            "lr_means=0.5",
            "perp_neg=true",
            "final_noise_range=0.2,0.9",
            "densify=mcmc",
            "negative_prompt=a = b",
            "start_radius=0.3",
            "final_guidance_scale=2",
            "tiny-sd:sds.guidance_scale=25",
            "second_guidance=rfds",
            "inner_steps=2",
        ],
        columns,
    ) == {
        "": {
            "views_per_step": 2,
            "lr_means": 0.5,
            "perp_neg": True,
            "final_noise_range": (0.2, 0.9),
            "densify": "mcmc",
            "negative_prompt": "a = b",
            "start_radius": 0.3,
            "second_guidance": "rfds",
            "inner_steps": 2,
            "final_guidance_scale": 2.0,
        },
        "tiny-sd:sds": {"guidance_scale": 25.0},
    }
    for wrong in ("views_per_step=2.5", "perp_neg=perhaps", "noise_range=0.2", "densify=magic"):
        with pytest.raises(UserError, match=f"--set {wrong}: has to be "):
            parse_settings([wrong], columns)
    for wrong, message in (
        ("views_per_step", "is not NAME=VALUE"),
        ("magic=1", "there is no setting magic"),
        ("lora_rank=2", "only rfds-vsd and vsd can use it"),
        ("tiny-sd:sds.inner_steps=2", "only rfds-rev can use it"),
        ("sd3:rfds.steps=2", "sd3:rfds is not one of the columns that are run"),
    ):
        with pytest.raises(UserError, match=f"--set {wrong}: {message}"):
            parse_settings([wrong], columns)


def test_every_ablation_changes_one_setting_that_there_is_to_another_value() -> None:
    from rfgs.distill.recipes import tiny_recipe
    from rfgs.guidance import as_dict

    defaults = {**as_dict(tiny_recipe("rfds")), "guidance": "rfds", **DRAFT}
    base, *columns = ablation_columns(DRAFT)
    assert base.name == "base" and base.settings == {}
    assert [column.name for column in columns] == [ablation.name for ablation in ABLATIONS]
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        ((name, value), *more) = column.settings.items()
        assert defaults.get(name) != value, column.name
        # One setting, or one of RFDS-Rev after it.
        assert not more or ((name, value) == ("guidance", "rfds-rev") and len(more) == 1)
        if "guidance" not in name:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            text = text.lower() if isinstance(value, bool) else text
            assert parse_settings([f"{name}={text}"], [base]) == {"": {name: value}}
    by_name = {column.name: column.settings for column in columns}
    assert by_name["steps-half"] == {"steps": 55} and by_name["views-double"] == {"views_per_step": 8}
