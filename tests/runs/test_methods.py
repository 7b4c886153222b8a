"""Which guidance goes with which model, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rfgs.distill import DistillConfig
from rfgs.errors import UserError
from rfgs.guidance import check_values, guides
from rfgs.models.catalog import BACKENDS
from rfgs.models.kind import kind_of
from rfgs.models.memory import FOOTPRINTS, Load, estimate
from rfgs.runs.job import Job
from rfgs.runs.methods import check_pair, load_of, usual_guidance


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


@pytest.mark.parametrize("guidance", guides())
@pytest.mark.parametrize("source", ["tiny-sd3", "sd3", "instaflow", "flux-dev", "sd15", "sd21", "some/body"])
def test_pairs(guidance: str, source: str) -> None:
    fits = source == "some/body" or (guidance in ("sds", "vsd")) == source.startswith(("sd1", "sd2"))
    if fits:
        check_pair(guidance, source)
    else:
        with pytest.raises(
            UserError, match=f"--guidance {guidance}: is defined for .*and {source} is none; use"
        ):
            check_pair(guidance, source)


@pytest.mark.parametrize(
    ("guidance", "settings", "message"),
    [
        (
            "rfds",
            {"inner_steps": 1},
            "inner_steps: only rfds-rev can use it; leave it out with guidance rfds",
        ),
        ("vsd", {"renormalize_noise": True}, "renormalize_noise: only rfds-rev"),
        ("sds", {"time_weight": "1-t"}, "time_weight: only rfds and rfds-rev can use it"),
        ("rfds-rev", {"lr_lora": 1e-3}, "lr_lora: only rfds-vsd and vsd can use it"),
        ("rfds-rev", {"inner_step_size": 0.0}, "inner_step_size 0: has to be a number above 0; try 1"),
        ("rfds-rev", {"inner_step_size": float("nan")}, "inner_step_size nan"),
        ("vsd", {"lr_lora": -1.0}, "lr_lora -1: has to be a number above 0 and at most 1; try 0.0001"),
        ("vsd", {"lora_rank": 0}, "lora_rank 0: has to be a whole number from 1 to 4096; try 4"),
        ("rfds", {"magic": 1}, "there is no setting magic"),
    ],
)
def test_settings_that_cannot_be(guidance: str, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_values(settings, DistillConfig, guidance)


def test_settings_that_can_be() -> None:
    inner = {"inner_steps": 3, "inner_step_size": 0.1, "inner_optimizer": "adam", "renormalize_noise": True}
    assert check_values(inner, DistillConfig, "rfds-rev") == inner
    lora = {"lora_rank": 8, "lora_steps": 2, "lr_lora": 1e-3}
    assert check_values(lora, DistillConfig, "rfds-vsd") == lora
    # A run that changes from one guidance to the other reads the settings of both.
    assert check_values({**inner, **lora}, DistillConfig, "rfds-rev", "rfds-vsd") == {**inner, **lora}


def test_the_usual_guidance_suits_the_model_and_what_is_asked_of_it() -> None:
    for source, small, usual in (
        ("tiny-sd3", True, "rfds"),
        ("tiny-exact", True, "rfds"),
        ("tiny-sd", True, "sds"),
        ("sd3", False, "rfds-rev"),
        ("sd15", False, "sds"),
    ):
        assert usual_guidance(source, small) == usual, source
    # Settings that only RFDS-Rev reads ask for it; those that both or all read do not.
    for names in (["inner_steps"], ["steps", "inner_optimizer"], ["time_weight", "renormalize_noise"]):
        assert usual_guidance("tiny-sd3", True, names) == "rfds-rev"
    for names in (["steps"], ["time_weight"], ["guidance_scale", "noise_range"]):
        assert usual_guidance("tiny-sd3", True, names) == "rfds"


def test_what_a_way_of_loading_means_for_memory() -> None:
    assert load_of(Job("", offload=True, dtype="float32"), "sd3", 4) == Load(4, True, True)
    asked = load_of(Job(""), "sd3", perp_neg=True, decode=True, encode=False)
    assert asked == Load(samples=4, decode=True, encode=False)
    # Half a byte and its share of the scales, where half precision has two.
    load, network = load_of(Job("", quantize="nf4"), "flux-dev"), FOOTPRINTS["flux-dev"].network
    assert load.weights == network * 9 // 16
    plain, small = (estimate("flux-dev", views=4, load=one).weights for one in (Load(), load))
    assert plain - small == 2 * network - network * 9 // 16
