"""`rfgs settings`: every setting with its default, or with what a model's runs begin with."""

from __future__ import annotations

import re

import pytest

from rfgs.cli.main import main
from rfgs.models.catalog import BACKENDS
from rfgs.priors import load_prior, unloaded


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """What is printed of each setting, in one line."""
    main(["settings", *arguments])
    told = {}
    for part in re.split(r"\n  (?=\w)", capsys.readouterr().out):
        name, _, rest = part.partition("  ")
        told[name] = " ".join(rest.split())
    return told


def test_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    told = listed(capsys)
    assert told["steps"].startswith("a whole number of at least 1; default: 300 Number of")
    assert "default: the model's own" in told["guidance_scale"] and "inner_steps" in told


def test_what_a_models_runs_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    told = listed(capsys, "--backend", "sd3")
    assert "begins with: 50 " in told["guidance_scale"] and "begins with: 0.06,0.98 " in told["noise_range"]
    # The usual guidance's own settings, and no other's.
    assert "begins with: 1-t " in told["time_weight"] and "lr_lora" not in told
    assert "begins with: the model's own" in told["resolution"]
    told = listed(capsys, "--backend", "tiny-sd3", "--guidance", "rfds-vsd")
    assert "begins with: 1.5 " in told["guidance_scale"] and 'begins with: "" ' in told["negative_prompt"]
    assert "lr_lora" in told
    assert "begins with: 50 " in listed(capsys, "image", "--backend", "sd3")["guidance_scale"]


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-instaflow", "tiny-sd", "tiny-exact"])
def test_what_is_known_before_loading_is_what_is_loaded(name: str) -> None:
    from rfgs.distill.recipes import recipe

    before = unloaded(name)
    prior = load_prior(name, before.kind)
    assert (before.kind, before.vocabulary) == (prior.kind, prior.vocabulary)
    for guidance in ("sds", "vsd") if prior.kind == "diffusion" else ("rfds", "rfds-rev"):
        assert recipe(before, guidance) == recipe(prior, guidance)


def test_every_backend_has_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    for backend in BACKENDS:
        assert "begins with" in listed(capsys, "--backend", backend.name)["steps"]


@pytest.mark.parametrize(
    "arguments",
    [("--backend", "nothing"), ("edit", "--backend", "sd3"), ("--backend", "sd3", "--guidance", "sds")],
)
def test_what_cannot_be_listed(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["settings", *arguments])
    assert capsys.readouterr().err.count("\n") == 1
