"""The numbers that 2D runs start from, against the papers, the authors' code and the tables that they come from."""

from __future__ import annotations

from dataclasses import asdict

from rfgs.flat.particles import ParticleConfig
from rfgs.flat.recipes import flowedit_recipe, inversion_recipe, ode_recipe, particle_recipe
from rfgs.guidance import InversionConfig
from rfgs.guidance.flowedit import FlowEditConfig
from rfgs.guidance.ode import OdeConfig
from tests.distill.test_recipes import EXACT, SD3, SD15, TINY, instaflow


def differences(config: object, usual: object) -> dict:
    """The settings of a recipe that are not the defaults."""
    before = asdict(usual)  # type: ignore[call-overload]
    return {name: value for name, value in asdict(config).items() if value != before[name]}  # type: ignore[call-overload]


def test_images_by_distillation() -> None:
    values = asdict(ParticleConfig())
    expected = {
        "steps": 400,
        "guidance_scale": 7.5,
        "particles": 4,
        "resolution": None,
        "space": "latents",
        # The authors' 2D experiments with Stable Diffusion 3.
        "lr_latents": 3e-2,
        "noise_range": (0.06, 0.99),
        "final_noise_range": (0.06, 0.99),
        "lr_pixels": 1e-2,
    }
    assert {name: values[name] for name in expected} == expected
    usual = ParticleConfig()
    assert differences(particle_recipe(TINY), usual) == {}
    assert differences(particle_recipe(SD3), usual) == {"steps": 800, "guidance_scale": 50}
    wide = {"noise_range": (0.02, 0.98), "final_noise_range": (0.02, 0.98)}
    flow = {"steps": 800, "guidance_scale": 50, "lr_latents": 3e-3, "own": {"exact_inner_step": True}, **wide}
    assert differences(particle_recipe(instaflow()), usual) == flow
    sds = {"guidance": "sds", "steps": 800, "guidance_scale": 100, **wide}
    assert differences(particle_recipe(SD15, "sds"), usual) == sds
    assert particle_recipe(EXACT).guidance_scale == 1


def test_inversion() -> None:
    """The authors' for SD3: 1400 steps of 2e-3. docs/editing.md has the 400 evaluations of the embedded models."""
    authors = {"steps": 1400, "learning_rate": 2e-3, "noise_range": (0.01, 1.0), "moment_weight": 1.0}
    assert asdict(InversionConfig()) == asdict(inversion_recipe(SD3)) == authors
    assert differences(inversion_recipe(TINY), InversionConfig()) == {"steps": 400, "learning_rate": 1e-2}


def test_the_path_in_time() -> None:
    usual = {"steps": 50, "guidance_scale": 1, "shift": 1, "solver": "euler"}
    assert asdict(OdeConfig()) == asdict(ode_recipe(TINY)) == usual
    # Stable Diffusion 3's sampler leans to the noise by 3.
    assert differences(ode_recipe(SD3), OdeConfig()) == {"shift": 3}


def test_flowedit() -> None:
    """Kulikov et al. 2024, for SD3: T = 50, n_max = 33, scales of 3.5 and 13.5; docs/editing.md for the embedded models."""
    paper = {
        "steps": 50,
        "strength": 33 / 50,
        "source_scale": 3.5,
        "target_scale": 13.5,
        "averages": 1,
        "shift": 3,
    }
    assert asdict(FlowEditConfig()) == asdict(flowedit_recipe(SD3)) == paper
    tuned = {"source_scale": 1, "target_scale": 7, "shift": 1}
    assert differences(flowedit_recipe(TINY), FlowEditConfig()) == tuned
    assert differences(flowedit_recipe(EXACT), FlowEditConfig()) == {**tuned, "target_scale": 1}
