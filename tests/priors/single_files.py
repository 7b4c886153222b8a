"""Models in a single file with Stability's, Black Forest Labs' and ComfyUI's names, made of small ones in diffusers' layout."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import single_file_model, single_file_utils
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def weights_of(folder: Path, part: str) -> Tensors:
    found: Tensors = {}
    for file in (folder / part).glob("*.safetensors"):
        found |= load_file(file)
    return found


def renamed(tensors: Tensors, rules: list[tuple[str, str]]) -> Tensors:
    """Tensors under the names that the rules make of theirs, one after the other."""
    out = {}
    for name, value in tensors.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        out[name] = value
    return out


def joined(tensors: Tensors, names: list[str], into: str) -> Tensors:
    """Tensors that end with one of `names` one below the other under `into`."""
    out = dict(tensors)
    for kind in ("weight", "bias"):
        for name in [name for name in tensors if name.endswith(f"{names[0]}.{kind}")]:
            before = name.removesuffix(f"{names[0]}.{kind}")
            parts = [out.pop(f"{before}{one}.{kind}") for one in names if f"{before}{one}.{kind}" in out]
            out[f"{before}{into}.{kind}"] = torch.cat(parts)
    return out


def swapped(value: Tensor) -> Tensor:
    """Scale and shift in the other order."""
    return torch.cat(value.chunk(2)[::-1])


def sd3_transformer(folder: Path) -> Tensors:
    tensors = weights_of(folder, "transformer")
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks."))
    for name in list(tensors):
        if name.startswith((f"transformer_blocks.{last}.norm1_context.linear", "norm_out.linear")):
            tensors[name] = swapped(tensors[name])
    for attention in ("attn", "attn2"):
        own = [f"{attention}.{one}" for one in ("to_q", "to_k", "to_v")]
        tensors = joined(tensors, own, f"x.{attention}.qkv")
    tensors = joined(tensors, [f"attn.add_{one}_proj" for one in "qkv"], "context.attn.qkv")
    return renamed(
        tensors,
        [
            (r"^pos_embed\.pos_embed", "pos_embed"),
            (r"^pos_embed\.proj", "x_embedder.proj"),
            (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
            (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
            (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
            (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
            (r"^proj_out", "final_layer.linear"),
            (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
            (r"^transformer_blocks", "joint_blocks"),
            (r"\.(attn2?)\.to_out\.0", r".x.\1.proj"),
            (r"\.attn\.to_add_out", ".context.attn.proj"),
            (r"\.(attn2?)\.norm_([qk])\.", r".x.\1.ln_\2."),
            (r"\.attn\.norm_added_([qk])\.", r".context.attn.ln_\1."),
            (r"\.norm1\.linear", ".x.adaLN_modulation.1"),
            (r"\.norm1_context\.linear", ".context.adaLN_modulation.1"),
            (r"\.ff\.net\.0\.proj", ".x.mlp.fc1"),
            (r"\.ff\.net\.2", ".x.mlp.fc2"),
            (r"\.ff_context\.net\.0\.proj", ".context.mlp.fc1"),
            (r"\.ff_context\.net\.2", ".context.mlp.fc2"),
            (r"^(joint_blocks\.\d+)\.(x|context)\.", r"\1.\2_block."),
        ],
    )


def flux_transformer(folder: Path) -> Tensors:
    tensors = weights_of(folder, "transformer")
    tensors = {k: swapped(v) if k.startswith("norm_out.linear") else v for k, v in tensors.items()}
    single = [f"attn.{one}" for one in ("to_q", "to_k", "to_v")]
    of_single = {k: v for k, v in tensors.items() if k.startswith("single_")}
    rest = {k: v for k, v in tensors.items() if k not in of_single}
    of_single = renamed(
        joined(of_single, [*single, "proj_mlp"], "linear1"),
        [
            (r"^single_transformer_blocks", "single_blocks"),
            (r"\.norm\.linear", ".modulation.lin"),
            (r"\.attn\.norm_q\.weight", ".norm.query_norm.scale"),
            (r"\.attn\.norm_k\.weight", ".norm.key_norm.scale"),
            (r"\.proj_out", ".linear2"),
        ],
    )
    rest = joined(joined(rest, single, "img_attn.qkv"), [f"attn.add_{k}_proj" for k in "qkv"], "txt_attn.qkv")
    rest = renamed(
        rest,
        [
            (r"^time_text_embed\.timestep_embedder\.", "time_in."),
            (r"^time_text_embed\.text_embedder\.", "vector_in."),
            (r"^time_text_embed\.guidance_embedder\.", "guidance_in."),
            (r"(_in)\.linear_1", r"\1.in_layer"),
            (r"(_in)\.linear_2", r"\1.out_layer"),
            (r"^context_embedder", "txt_in"),
            (r"^x_embedder", "img_in"),
            (r"^proj_out", "final_layer.linear"),
            (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
            (r"^transformer_blocks", "double_blocks"),
            (r"\.norm1\.linear", ".img_mod.lin"),
            (r"\.norm1_context\.linear", ".txt_mod.lin"),
            (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
            (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
            (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
            (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
            (r"\.ff\.net\.0\.proj", ".img_mlp.0"),
            (r"\.ff\.net\.2", ".img_mlp.2"),
            (r"\.ff_context\.net\.0\.proj", ".txt_mlp.0"),
            (r"\.ff_context\.net\.2", ".txt_mlp.2"),
            (r"\.attn\.to_out\.0", ".img_attn.proj"),
            (r"\.attn\.to_add_out", ".txt_attn.proj"),
        ],
    )
    return rest | of_single


def vae(folder: Path) -> Tensors:
    tensors = weights_of(folder, "vae")
    for name in list(tensors):
        if ".attentions." in name and name.endswith("weight") and tensors[name].dim() == 2:
            tensors[name] = tensors[name][:, :, None, None]
    last = max(int(found[1]) for name in tensors if (found := re.match(r"decoder\.up_blocks\.(\d+)", name)))
    tensors = {
        re.sub(r"^decoder\.up_blocks\.(\d+)", lambda m: f"decoder.up.{last - int(m[1])}", name): value
        for name, value in tensors.items()
    }
    return renamed(
        tensors,
        [
            (r"^encoder\.down_blocks\.", "encoder.down."),
            (r"(down|up)\.(\d+)\.resnets\.", r"\1.\2.block."),
            (r"\.downsamplers\.0\.", ".downsample."),
            (r"\.upsamplers\.0\.", ".upsample."),
            (r"\.conv_shortcut\.", ".nin_shortcut."),
            (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
            (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
            (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
            (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
            (r"\.attn_1\.to_([qkv])\.", r".attn_1.\1."),
            (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
            (r"\.conv_norm_out\.", ".norm_out."),
        ],
    )


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def write(file: Path, *tensors: Tensors) -> Path:
    every = {k: v.contiguous().clone() for some in tensors for k, v in some.items()}
    save_file(every, file)
    return file


def everything_of_sd3(folder: Path) -> list[Tensors]:
    """As in `sd3_medium_incl_clips_t5xxlfp16.safetensors`."""
    texts = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}
    return [
        under("model.diffusion_model.", sd3_transformer(folder)),
        under("first_stage_model.", vae(folder)),
        *[
            under(f"text_encoders.{name}.transformer.", weights_of(folder, part))
            for part, name in texts.items()
        ],
    ]


def narrow_flux(monkeypatch: Any, width: int) -> None:
    """diffusers' own conversion of FLUX, which has the width of the real one written into it, for one of `width`."""
    own = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers
    code = inspect.getsource(own)
    assert "inner_dim = 3072" in code
    names = dict(vars(single_file_utils))
    exec(code.replace("inner_dim = 3072", f"inner_dim = {width}"), names)
    known = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(known, "checkpoint_mapping_fn", names[own.__name__])


def write_gguf(file: Path, tensors: Tensors) -> Tensors:
    """A GGUF as the common converter makes it, and what is in it as plain tensors: 8 bit where rows are long enough, biases
    and tables in bfloat16, which only few readers expect."""
    import gguf

    writer = gguf.GGUFWriter(file, "sd3")
    kept = {}
    for name, value in tensors.items():
        kind = gguf.GGMLQuantizationType.F32
        if value.dim() == 2 and value.shape[-1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        elif name == "pos_embed" or name.endswith("qkv.bias"):
            kind = gguf.GGMLQuantizationType.BF16
        data = gguf.quants.quantize(value.float().numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        plain = torch.from_numpy(gguf.quants.dequantize(data, kind)).reshape(value.shape)
        # diffusers multiplies scale and number in half precision.
        kept[name] = plain.half().float() if kind == gguf.GGMLQuantizationType.Q8_0 else plain
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept
