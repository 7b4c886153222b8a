"""A LoRA for a style: what is added is the product of its matrices, and one for another model is refused in a line."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rfgs.errors import UserError
from rfgs.guidance.lora import Student
from rfgs.models import families
from rfgs.models.loading import Loading
from rfgs.models.lora_file import check_lora
from rfgs.priors import load_prior
from rfgs.priors.added_lora import add_lora
from rfgs.priors.fit import loading
from tests.guidance.networks import NetworkPrior
from tests.priors import layouts

RANK = 2
LAYERS = {
    "sd3": ["transformer_blocks.0.attn.to_q", "transformer_blocks.1.ff.net.0.proj"],
    "flux": ["transformer_blocks.0.attn.add_k_proj", "single_transformer_blocks.0.proj_mlp"],
    "sd": ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"],
}


def network(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "sd":
        return layouts.unet().eval().requires_grad_(False)
    if family == "sd3":
        made: Any = layouts.SD3Transformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=12,
            pooled_projection_dim=10,
        )
    else:
        made = layouts.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=12,
            pooled_projection_dim=10,
            axes_dims_rope=(2, 2, 4),
        )
    return made.eval().requires_grad_(False)


def matrices(module: torch.nn.Module, layers: list[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B for each layer."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for layer in layers:
        rows, columns = module.get_submodule(layer).weight.shape  # type: ignore[misc]
        found[layer] = tuple(torch.randn(*s, generator=generator) for s in ((RANK, columns), (rows, RANK)))
    return found  # type: ignore[return-value]


def in_names_of(how: str, family: str, found: dict[str, Any]) -> tuple[dict[str, torch.Tensor], float]:
    """The tensors of a file as some trainer writes it, and what alpha / rank comes to in it."""
    tensors, part = {}, "unet" if family == "sd" else "transformer"
    for layer, (a, b) in found.items():
        if how == "kohya":
            before = f"lora_unet_{layer.replace('.', '_')}"
            tensors |= {f"{before}.lora_down.weight": a, f"{before}.lora_up.weight": b}
            tensors[f"{before}.alpha"] = torch.tensor(float(RANK) / 2)
        elif how == "peft":
            before = f"base_model.model.{layer}"
            tensors |= {f"{before}.lora_A.weight": a, f"{before}.lora_B.weight": b}
        else:
            tensors |= {f"{part}.{layer}.lora_A.weight": a, f"{part}.{layer}.lora_B.weight": b}
    return tensors, 0.5 if how in ("kohya", "peft") else 1.0


@pytest.mark.parametrize(
    ("family", "how"),
    [("sd3", "diffusers"), ("sd3", "peft"), ("flux", "diffusers"), ("sd", "diffusers"), ("sd", "kohya")],
)
@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_what_is_added(family: str, how: str, scale: float, tmp_path: Path) -> None:
    module = network(family)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = matrices(module, LAYERS[family])
    tensors, share = in_names_of(how, family, found)
    save_file(tensors, tmp_path / "style.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": RANK / 2}))
    add_lora(module, families_by_name(family), tmp_path / "style.safetensors", scale)
    after = module.state_dict()
    assert list(after) == list(before) and not any(p.requires_grad for p in module.parameters())
    for name, value in before.items():
        layer = name.removesuffix(".weight")
        if layer in found:
            a, b = found[layer]
            value = value + scale * share * b @ a
        torch.testing.assert_close(after[name], value)


def families_by_name(family: str) -> families.Family:
    return {"sd3": families.SD3, "flux": families.FLUX, "sd": families.SD}[family]


def with_the_networks_name(file: Path) -> None:
    """As a pipeline writes it: the network's name before the layers', in the note too."""
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        tensors = {f"transformer.{k}": content.get_tensor(k) for k in content.keys()}
        (key, note) = next((k, v) for k, v in content.metadata().items() if "{" in v)
    said = {f"transformer.{k}": v for k, v in json.loads(note).items()}
    save_file(tensors, file, {"format": "pt", key: json.dumps(said)})


@pytest.mark.parametrize("named", [False, True])
def test_the_note_of_diffusers_says_how_much_it_counts(named: bool, tmp_path: Path) -> None:
    from peft import LoraConfig

    trained, module = network("sd3"), network("sd3")
    trained.add_adapter(LoraConfig(r=RANK, lora_alpha=8, target_modules=["to_q"]), adapter_name="mine")
    for name, value in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value)
    with torch.no_grad():
        trained.save_lora_adapter(tmp_path, adapter_name="mine")
        file = next(tmp_path.glob("*.safetensors"))
        if named:
            with_the_networks_name(file)
        add_lora(module, families.SD3, file)
        trained.fuse_lora()
    layer = "transformer_blocks.0.attn.to_q"
    torch.testing.assert_close(
        module.get_submodule(layer).weight, trained.get_submodule(layer).base_layer.weight
    )


def refused(tensors: dict[str, torch.Tensor], family: str, tmp_path: Path) -> str:
    file = tmp_path / "style.safetensors"
    save_file(tensors, file)
    with pytest.raises(UserError) as raised:
        add_lora(network(family), families_by_name(family), file)
    message = str(raised.value)
    assert message.startswith(f"--lora {file}: ") and "\n" not in message
    return message


def test_one_of_another_size_is_refused(tmp_path: Path) -> None:
    key = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    assert (
        "is for a model of another width: transformer_blocks.0.attn.to_q.lora_A.weight has 64 where this one has 16"
        in (refused({key: torch.zeros(2, 64)}, "sd3", tmp_path))
    )
    assert "this one has no layer transformer_blocks.7.attn.to_q" in refused(
        {key.replace(".0.", ".7."): torch.zeros(2, 16)}, "sd3", tmp_path
    )
    assert "holds nothing for the transformer" in refused(
        {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": torch.zeros(2, 16)}, "sd3", tmp_path
    )
    assert "cannot be read as one for this model" in refused(
        {"lora_unet_double_blocks_0_img_attn_other.lora_down.weight": torch.zeros(2, 16)}, "flux", tmp_path
    )


@pytest.mark.parametrize(
    ("name", "family", "line"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "sd3", "is for FLUX, and x is SD3"),
        ("lora_unet_down_blocks_0_attentions_0.lora_down.weight", "flux", "is for a UNet, and x is FLUX"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "sd3", ""),
        ("transformer.transformer_blocks.0.attn.to_q.weight", "sd3", "is not a LoRA"),
        ("transformer.x.lora_magnitude_vector.weight", "sd3", "is a DoRA"),
    ],
)  # fmt: skip
def test_what_the_header_tells(name: str, family: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    save_file({name: torch.zeros(2, 2)}, file)
    if not line:
        return check_lora(str(file), 1.0, families_by_name(family), "x")
    with pytest.raises(UserError, match=line):
        check_lora(str(file), 1.0, families_by_name(family), "x")
    return None


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\0\1")
    (tmp_path / "old.ckpt").touch()
    for name, line in {
        "gone.safetensors": "no such file",
        "cut.safetensors": "is not a file of weights",
        "old.ckpt": "does not end in .safetensors",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=line):
            check_lora(str(tmp_path / name), 1.0, families.SD3, "x")
    with pytest.raises(UserError, match="--lora-scale nan: has to be a number"):
        check_lora("x", float("nan"), families.SD3, "x")
    save_file({"a.lora_A.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="tiny-exact has no network"):
        check_lora(str(tmp_path / "a.safetensors"), 1.0, families.EXACT, "tiny-exact")


def test_a_student_of_a_styled_prior(tmp_path: Path) -> None:
    """It starts as the styled network, and leaves it as it was."""
    prior = NetworkPrior("sd3")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, text = torch.tensor([0.5]), prior.embed(["a"])
    plain = prior.predict(x, t, text)
    tensors, _ = in_names_of("diffusers", "sd3", matrices(prior.network, ["transformer_blocks.0.attn.to_q"]))
    save_file(tensors, tmp_path / "style.safetensors")
    add_lora(prior.network, families.SD3, tmp_path / "style.safetensors")
    before = prior.predict(x, t, text)
    assert not torch.equal(before, plain)
    student = Student(prior, rank=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(student.predict(x, t, text, None), before)
    student.learn(x, t, text, None, torch.ones_like(x), 1e-2)
    assert torch.equal(prior.predict(x, t, text), before)
    del student
    gc.collect()
    assert torch.equal(prior.predict(x, t, text), before)


def test_a_model_is_loaded_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--lora x: cannot be added to quantized weights"):
        load_prior("tiny-sd3", lora="x", quantize="nf4")
    added: list[Any] = []
    monkeypatch.setattr("rfgs.priors.added_lora.add_lora", lambda *given: added.append(given))
    save_file({"transformer.x.lora_A.weight": torch.zeros(1)}, tmp_path / "style.safetensors")
    job = Loading(lora=str(tmp_path / "style.safetensors"), lora_scale=0.5)
    prior: Any = load_prior("tiny-sd3", **loading(job))
    assert added == [(prior.network, families.SD3, tmp_path / "style.safetensors", 0.5)]


def test_every_way_to_load_reaches_the_model() -> None:
    names = {field.name for field in dataclasses.fields(Loading)}
    assert set(loading(Loading())) == names <= set(inspect.signature(load_prior).parameters)
