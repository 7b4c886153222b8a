"""InstaFlow's adapter against diffusers' pipeline and against InstaFlow's own sampler, written out here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

from rfgs.errors import UserError
from rfgs.priors import guided, load_prior
from tests.priors import layouts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files are those of Stable Diffusion 1.5, scheduler and all."""
    return layouts.stable_diffusion(tmp_path_factory.mktemp("instaflow"))


@pytest.fixture(scope="module")
def unet(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder, subfolder="unet").requires_grad_(False)


def load(folder: Path):
    return load_prior(f"instaflow:{folder}")


def test_velocity_is_minus_the_networks_output(folder: Path, unet: UNet2DConditionModel) -> None:
    """At noise fraction t, its sampler asks for u = x - e at the label 1000 t (1000 is pure noise)."""
    prior = load(folder)
    condition = prior.embed(["a red cube", "blue"])
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.25, 0.9])
    expected = unet(x_t, torch.tensor([250.0, 900.0]), condition.tokens).sample
    torch.testing.assert_close(prior.predict(x_t, t, condition), -expected)
    prior.network_time = "authors"
    expected = unet(x_t, torch.tensor([750.0, 100.0]), condition.tokens).sample
    torch.testing.assert_close(prior.predict(x_t, t, condition), -expected, atol=1e-5, rtol=1e-4)


def test_its_own_sampler(folder: Path, unet: UNet2DConditionModel) -> None:
    prior = load(folder)
    text, null = prior.embed(["a red cube"]), prior.embed(["blue"])
    ours = prior.sample(text, null, steps=5, guidance_scale=1.5, generator=torch.Generator().manual_seed(3))
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for i in range(5):
        label = torch.tensor([(1.0 - i / 5) * 1000.0])
        u_text, u_null = unet(z, label, text.tokens).sample, unet(z, label, null.tokens).sample
        z = z + (u_null + 1.5 * (u_text - u_null)) / 5
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, prior.decode(z), atol=1e-4, rtol=1e-4)


def test_a_whole_trajectory_is_diffusers(folder: Path) -> None:
    """diffusers' pipeline with a flow scheduler draws the same picture once the sign of the network's output is turned."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipeline.scheduler.init_noise_sigma = 1.0  # The pipeline asks, and this scheduler does not say.
    with torch.no_grad():
        pipeline.unet.conv_out.weight.neg_()
        pipeline.unet.conv_out.bias.neg_()
    theirs = pipeline(
        "a red cube",
        negative_prompt="blue",
        sigmas=[1.0, 0.75, 0.5, 0.25],
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(4),
        output_type="pt",
    ).images
    prior = load(folder)
    ours = prior.sample(
        prior.embed(["a red cube"]),
        prior.embed(["blue"]),
        steps=4,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(4),
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_euler_steps_of_velocity_are_its_sampler(folder: Path) -> None:
    """The house's rule, x += (t_next - t) v from t = 1 to 0, walks the same path."""
    prior = load(folder)
    text, null = prior.embed(["a red cube"]), prior.embed(["blue"])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    times = torch.linspace(1, 0, 6)
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        x = x + (t_next - t) * guided(prior, x, t[None], text, null, 1.5)
    sampled = prior.sample(
        text, null, steps=5, guidance_scale=1.5, generator=torch.Generator().manual_seed(3)
    )
    torch.testing.assert_close(prior.decode(x), sampled, atol=1e-4, rtol=1e-4)


def test_how_it_is_told_from_stable_diffusion(folder: Path, tmp_path: Path) -> None:
    assert load_prior(folder, None).kind == "diffusion"
    assert load(folder).kind == "flow"
    for file in folder.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    # Our own small models say so, and InstaFlow's own code has a pipeline class.
    (tmp_path / "rfgs.json").write_text(json.dumps({"family": "instaflow", "vocabulary": ["red"]}))
    prior = load_prior(tmp_path)
    assert prior.kind == "flow" and prior.vocabulary == {"red"}
    (tmp_path / "rfgs.json").unlink()
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": "RectifiedFlowPipeline"}))
    assert load_prior(tmp_path).kind == "flow"


def test_a_style_is_added(folder: Path, tmp_path: Path) -> None:
    """InstaFlow + (styled - base), with the styled model's autoencoder: the authors' merge."""
    styled, base = (layouts.stable_diffusion(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    prior = load(folder)
    before = {name: value.clone() for name, value in prior.network.state_dict().items()}
    prior.add_style(str(styled), str(base))
    weights = [UNet2DConditionModel.from_pretrained(f, subfolder="unet").state_dict() for f in (styled, base)]
    for name, value in prior.network.state_dict().items():
        torch.testing.assert_close(value, before[name] + weights[0][name] - weights[1][name])
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(prior.encode(images), load(styled).encode(images))


def test_a_style_of_another_shape(folder: Path, tmp_path: Path) -> None:
    layouts.unet(block_out_channels=(8, 24)).save_pretrained(tmp_path / "unet")
    layouts.autoencoder().save_pretrained(tmp_path / "vae")
    with pytest.raises(UserError, match="its UNet has another shape"):
        load(folder).add_style(str(tmp_path), str(folder))
