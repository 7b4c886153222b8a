"""Which guidance goes with which model, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from rfgs.errors import UserError
from rfgs.guidance import GUIDES, GuidanceConfig
from rfgs.models.catalogue import BACKENDS
from rfgs.models.kind import kind_of
from rfgs.runs.job import KINDS, Guidance, Job, Method
from rfgs.runs.methods import check_method, check_pair, usual_guidance


def test_all_lists_of_guidances_agree() -> None:
    assert list(GUIDES) == list(KINDS) == list(get_args(Guidance))
    assert {name: guide.kind for name, guide in GUIDES.items()} == KINDS


def test_settings_of_a_job_are_those_of_the_loop() -> None:
    config = GuidanceConfig()
    everything = Method(
        guidance_scale=1.0,
        negative_prompt="x",
        inner_steps=2,
        inner_step_size=2.0,
        lora_rank=2,
        lora_steps=2,
        lr_lora=2.0,
    )
    for name in everything.settings():
        assert hasattr(config, name)
    assert set(Job("x").settings()) == {"guidance", "inner_optimiser", "renormalise_noise"}


def test_kinds_of_backends_without_their_weights() -> None:
    assert {backend.name: kind_of(backend.name) for backend in BACKENDS} == {
        backend.name: backend.kind for backend in BACKENDS
    }
    assert kind_of("somebody/something") is None


def folder(path: Path, pipeline: str, **about: str) -> str:
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    if about:
        (path / "rfgs.json").write_text(json.dumps(about))
    return str(path)


def test_kinds_of_folders(tmp_path: Path) -> None:
    assert kind_of(folder(tmp_path, "StableDiffusion3Pipeline")) == "flow"
    assert kind_of(folder(tmp_path, "StableDiffusionPipeline")) == "diffusion"
    assert kind_of(f"instaflow:{tmp_path}") == "flow"
    assert kind_of(folder(tmp_path, "StableDiffusionPipeline", family="instaflow")) == "flow"
    (tmp_path / "model_index.json").write_text("no json")
    assert kind_of(str(tmp_path)) is None


@pytest.mark.parametrize("guidance", KINDS)
@pytest.mark.parametrize("source", ["tiny-sd3", "sd3", "instaflow", "flux-dev", "sd15", "sd21", "some/body"])
def test_pairs(guidance: Guidance, source: str) -> None:
    fits = source == "some/body" or (guidance in ("sds", "vsd")) == source.startswith(("sd1", "sd2"))
    if fits:
        check_pair(guidance, source)
    else:
        with pytest.raises(
            UserError, match=f"--guidance {guidance}: is defined for .*and {source} is none; use"
        ):
            check_pair(guidance, source)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method(guidance="rfds", inner_steps=1), "--inner-steps: only rfds-rev can use it"),
        (Method(guidance="vsd", renormalise_noise=True), "--renormalise-noise: only rfds-rev"),
        (Method(guidance="sds", inner_optimiser="adam"), "--inner-optimiser: only rfds-rev"),
        (
            Method(lr_lora=1e-3),
            "--lr-lora: only vsd and rfds-vsd can use it; leave it out with --guidance rfds-rev",
        ),
        (Method(inner_step_size=0.0), "--inner-step-size 0: has to be a positive number"),
        (Method(inner_step_size=float("nan")), "--inner-step-size nan"),
        (
            Method(guidance="vsd", lr_lora=-1.0),
            "--lr-lora -1: has to be a positive number; try --lr-lora 0.0001",
        ),
        (Method(guidance="vsd", lora_rank=0), "--lora-rank 0: has to be at least 1; try --lora-rank 4"),
    ],
)
def test_settings_that_cannot_be(method: Method, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_method(method)


def test_settings_that_can_be() -> None:
    check_method(Method())
    check_method(Method(inner_steps=3, inner_step_size=0.1, inner_optimiser="adam", renormalise_noise=True))
    check_method(Method(guidance="rfds-vsd", lora_rank=8, lora_steps=2, lr_lora=1e-3))


def test_the_usual_guidance_suits_the_model_and_what_is_asked_of_it() -> None:
    for source, small, usual in (
        ("tiny-sd3", True, "rfds"),
        ("tiny-exact", True, "rfds"),
        ("tiny-sd", True, "sds"),
        ("sd3", False, "rfds-rev"),
        ("sd15", False, "sds"),
    ):
        assert usual_guidance(source, small, Method()) == usual, source
    # Settings of the inner steps ask for RFDS-Rev, also where they are wrong and will be refused.
    for settings in ({"inner_steps": 2}, {"inner_steps": 0}, {"inner_optimiser": "adam"}, {"renormalise_noise": True}):
        assert usual_guidance("tiny-sd3", True, Method(**settings)) == "rfds-rev"
