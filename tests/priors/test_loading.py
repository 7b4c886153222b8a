"""Ways to load a big model: none of them changes what it computes, and what cannot be is told."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.lora import Student
from rfgs.models.catalog import families
from rfgs.priors import load_prior
from rfgs.priors.fit import fit_views
from tests.priors import layouts

COMPILED = ["sd3", "flux", "sd15"]
"""Those that TorchDynamo is tried on, which takes it seconds each; InstaFlow's network is Stable Diffusion's."""
FAMILIES = [*COMPILED, "instaflow", "flux2", "z-image"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, klein: Path, z_image: Path) -> dict[str, str]:
    """A model with random weights of each family."""
    unet = str(layouts.stable_diffusion(tmp_path_factory.mktemp("unet")))
    return {
        "sd3": str(layouts.stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=True)),
        "flux": str(layouts.flux(tmp_path_factory.mktemp("flux"), dev=True)),
        "sd15": unet,
        "instaflow": f"instaflow:{unet}",
        "flux2": str(klein),
        "z-image": str(z_image),
    }


def test_each_family_has_an_adapter_of_its_kind() -> None:
    for family in families():
        assert family.load_adapter().kind == family.kind, family.name


@pytest.fixture(autouse=True)
def no_embeddings_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))


def work(prior: Any) -> list[Tensor]:
    """What a loop asks of a prior: a prediction, latents with the gradient of the views, and a picture of them."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    x = prior.encode(images)
    condition = prior.embed(["a red cube", "blue"])
    found = prior.predict(x.detach(), torch.tensor([0.3, 0.8]), condition)
    (x * found).sum().backward()
    assert images.grad is not None and found.std() > 1e-4 and images.grad.std() > 1e-6
    return [condition.tokens, found, x.detach(), images.grad, prior.decode(x.detach())]


@pytest.mark.parametrize("family", FAMILIES)
def test_offloaded_weights_compute_the_same(family: str, folders: dict[str, str]) -> None:
    plain, offloaded = load_prior(folders[family], None), load_prior(folders[family], None, offload=True)
    for part in (offloaded.network, offloaded.autoencoder.module):
        assert {parameter.device.type for parameter in part.parameters()} == {"meta"}
    for ours, theirs in zip(work(offloaded), work(plain), strict=True):
        torch.testing.assert_close(ours, theirs)
    # What is left of the weights on the way back is as little with views that are encoded one by one.
    for prior in (plain, offloaded):
        prior.autoencoder.slice_views = True
    for ours, theirs in zip(work(offloaded), work(plain), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_offloaded_encoder_in_half_precision(folders: dict[str, str]) -> None:
    prior = load_prior(folders["sd3"], offload=True)
    exact = work(prior)
    assert "half precision" in str(fit_views(prior, views=2, size=64, free=0))
    for ours, theirs in zip(work(prior)[2:4], exact[2:4], strict=True):
        assert 1e-4 < (ours - theirs).norm() / theirs.norm() < 0.1


def test_offloaded_layers_come_to_the_device_that_computes(folders: dict[str, str]) -> None:
    """On the meta device nothing is computed, but what lies on another device is refused there as on a GPU."""
    prior = load_prior(folders["sd3"], device="meta", offload=True)
    assert prior.device.type == "meta" and prior.network.pos_embed.pos_embed.device.type == "meta"
    condition = prior.text._embed(prior._load_text(), ["a red cube"])
    assert condition.tokens.device.type == "meta"
    x, t = torch.empty(1, 16, 8, 8, device="meta"), torch.empty(1, device="meta")
    assert prior.predict(x, t, condition).device.type == "meta"
    assert prior.encode(torch.empty(1, 3, 64, 64, device="meta")).device.type == "meta"


def test_a_style_is_added_before_the_weights_are_offloaded(folders: dict[str, str], tmp_path: Path) -> None:
    from rfgs.priors import parts
    from rfgs.priors.instaflow import InstaFlowPrior

    styled = str(layouts.stable_diffusion(tmp_path / "styled", seed=1))
    setup = parts.Setup(torch.device("meta"), offload=True)
    prior = InstaFlowPrior.load(folders["sd15"], name="x", setup=setup)
    prior.add_style(styled, folders["sd15"])
    assert all(parameter.device.type == "cpu" for parameter in prior.network.parameters())
    assert prior.autoencoder.module.device.type == "cpu"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The modules that were compiled; TorchDynamo reads them, and no code is generated, which would take minutes."""
    modules: list[Any] = []
    plain = torch.nn.Module.compile

    def compile(module: torch.nn.Module) -> None:
        modules.append(module)
        plain(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    torch._dynamo.reset()
    return modules


@pytest.mark.parametrize("family", COMPILED)
def test_a_compiled_network_computes_the_same(
    family: str, folders: dict[str, str], compiled: list[Any]
) -> None:
    plain, prior = load_prior(folders[family], None), load_prior(folders[family], None, compile=True)
    assert compiled == [prior.network]
    for ours, theirs in zip(work(prior), work(plain), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_student_of_a_compiled_network(folders: dict[str, str], compiled: list[Any]) -> None:
    """A LoRA that comes, learns and goes is seen by what was compiled before it."""
    x, t = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])
    losses = []
    for compile in (False, True):
        prior = load_prior(folders["sd3"], compile=compile)
        condition = prior.embed(["a red cube", "blue"])
        before = prior.predict(x, t, condition)
        student = Student(prior, rank=2, generator=torch.Generator().manual_seed(1))
        losses.append(
            [student.learn(x, t, condition, torch.eye(4).expand(2, 4, 4), x, 1e-2) for _ in range(3)]
        )
        torch.testing.assert_close(prior.predict(x, t, condition), before)
    assert losses[0][2] < losses[0][0]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["flux2", "z-image"])
def test_a_student_finds_the_attention_and_the_time_of(family: str, folders: dict[str, str]) -> None:
    """It starts as the prior, learns, sees the camera by way of the embedding of time, and leaves the network as it was."""
    prior, cameras = load_prior(folders[family]), torch.eye(4).expand(2, 4, 4)
    condition, t = prior.embed(["a red cube", "blue"]), torch.tensor([0.3, 0.8])
    x = prior.encode(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    before = prior.predict(x, t, condition)
    student = Student(prior, rank=2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(student.predict(x, t, condition, cameras), before)
    losses = [student.learn(x, t, condition, cameras, x, 1e-2) for _ in range(3)]
    assert losses[2] < losses[0]
    seen, blind = (student.predict(x, t, condition, given) for given in (cameras, None))
    assert (seen - blind).abs().max() > 1e-5
    torch.testing.assert_close(prior.predict(x, t, condition), before)
    # Each block's attention is adapted.
    blocks = {name.partition("attn" if family == "flux2" else "attention")[0] for name in student._lora}
    assert len(blocks) == {"flux2": 2, "z-image": 3}[family]


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_t5_in_8_bit(family: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes is asked for, T5 is put where the network is and left there, and its embeddings are kept apart."""
    from transformers import T5EncoderModel

    plain, asked = T5EncoderModel.from_pretrained, []

    def from_pretrained(source: str, *, quantization_config: Any, device_map: Any, **options: Any) -> Any:
        asked.append((quantization_config.load_in_8bit, device_map))
        return plain(source, **options)

    before = load_prior(folders[family]).embed(["blue"])
    monkeypatch.setattr(T5EncoderModel, "from_pretrained", from_pretrained)
    condition = load_prior(folders[family], t5="8bit").embed(["blue"])
    assert asked == [(True, {"": torch.device("cpu")})]
    torch.testing.assert_close(condition.tokens, before.tokens)


def raises(error: type[Exception], *_: Any, **__: Any) -> None:
    raise error("CUDA out of memory" if error is torch.cuda.OutOfMemoryError else "something else")


REMEDIES = ("is not enough to load it", "--offload", "--t5 drop", "--t5 8bit", "--backend")


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_that_does_not_suffice_for_the_model(
    family: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.Module.to", partial(raises, torch.cuda.OutOfMemoryError))
    with pytest.raises(UserError) as raised:
        load_prior(folders[family], None)
    assert all(words in str(raised.value) for words in REMEDIES)


@pytest.mark.parametrize("name", ["_load_text", "_embed"])
def test_memory_that_does_not_suffice_for_the_text(
    name: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"rfgs.priors.sd3.SD3Prior.{name}", partial(raises, torch.cuda.OutOfMemoryError))
    with pytest.raises(UserError) as raised:
        load_prior(folders["sd3"]).embed(["blue"])
    assert all(words in str(raised.value) for words in REMEDIES)
    # Other errors stay what they are.
    monkeypatch.setattr(f"rfgs.priors.sd3.SD3Prior.{name}", partial(raises, ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        load_prior(folders["sd3"]).embed(["blue"])
