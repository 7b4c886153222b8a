"""Models with random weights in the exact folder layout of the real ones, small enough for a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from training.text import TEXT_WIDTH, new_text_encoder, write_tokenizer

WORDS = ["red", "cube", "a", "blue"]
WIDTH = 16
"""Channels of the text encoder."""


def randomize(module: torch.nn.Module, std: float = 0.05) -> None:
    """Random weights everywhere: some are zero or one at the start, which would hide mistakes."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)


def unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    module = UNet2DConditionModel(**settings | changes)
    randomize(module, 0.2)
    return module


def autoencoder(latent_channels: int = 4, **changes: Any) -> AutoencoderKL:
    """Eight pixels per latent, as in all of them."""
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 4, 8, 8),
        "latent_channels": latent_channels,
        "norm_num_groups": 2,
    }
    return AutoencoderKL(**settings | changes)


def clip(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def stable_diffusion(folder: Path, scheduler: Any = None, seed: int = 0) -> Path:
    """A Stable Diffusion of a few thousand weights in `folder`, with the real latent scale."""
    torch.manual_seed(seed)
    tokenizer = write_tokenizer(WORDS, folder / "words")
    StableDiffusionPipeline(
        vae=autoencoder(),  # 0.18215 is the class's default, and Stable Diffusion's configuration leaves it out too.
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=scheduler or sd_schedule(DDIMScheduler),
        safety_checker=None,
        feature_extractor=None,
    ).save_pretrained(folder / "model")
    return folder / "model"


def sd_schedule(kind: Any, **changes: Any) -> Any:
    """The noise schedule of Stable Diffusion 1 and 2."""
    return kind(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        **changes,
    )


def small_t5(words: list[str], width: int) -> tuple[T5EncoderModel, T5TokenizerFast]:
    """A small T5 of `width` channels with a tokenizer that knows `words` and letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(f"\u2581{word}", -3.0) for word in words] + [
        (letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz"
    ]
    tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config), tokenizer


def flux(folder: Path, *, dev: bool) -> Path:
    """A FLUX of a few thousand weights in `folder`, with the real latent shift and scale: `dev`, or else schnell."""
    torch.manual_seed(0)
    tokenizer = write_tokenizer(WORDS, folder / "words")
    text_encoder_2, tokenizer_2 = small_t5(WORDS, 24)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=WIDTH,
        guidance_embeds=dev,
        axes_dims_rope=(4, 4, 8),
    )
    randomize(transformer, 0.1)
    vae = autoencoder(
        16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159
    )
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if dev else {"shift": 1.0}
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=vae,
        text_encoder=clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    ).save_pretrained(folder / "model")
    return folder / "model"


def stable_diffusion_3(folder: Path, *, t5: bool, **changes: Any) -> Path:
    """A Stable Diffusion 3 of a few thousand weights in `folder`, with the real latent shift and scale.

    `changes` are of the network's size.
    """
    torch.manual_seed(0)
    tokenizer = write_tokenizer(WORDS, folder / "words")
    width = 2 * TEXT_WIDTH + 8
    settings: dict[str, Any] = {
        "sample_size": 8,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_projection_dim": 16,
        "joint_attention_dim": width,
        "pooled_projection_dim": 2 * TEXT_WIDTH,
        "pos_embed_max_size": 12,
    }
    transformer = SD3Transformer2DModel(**settings | changes)
    randomize(transformer)
    text_encoder_3, tokenizer_3 = small_t5(WORDS, width) if t5 else (None, None)
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(
            16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5305, shift_factor=0.0609
        ),
        text_encoder=new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=new_text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    ).save_pretrained(folder / "model")
    return folder / "model"


CHAT = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
"""What Qwen3's own template makes of one message."""
READ = 48
"""Tokens that prompts have in the models below, for 512, which would cost seconds."""


def small_qwen(width: int, layers: int) -> tuple[Qwen3ForCausalLM, Qwen2TokenizerFast]:
    """A small Qwen3 with its head, and a tokenizer whose words are letters and the marks of a chat."""
    letters = [chr(code) for code in range(33, 127)] + [
        "\u0120",
        "\u010a",
    ]  # Its signs for a space and a new line.
    marks = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Qwen2TokenizerFast(vocab={letter: index for index, letter in enumerate(letters)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = CHAT
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 3,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        tie_word_embeddings=True,
    )
    encoder = Qwen3ForCausalLM(config)
    randomize(encoder, 0.3)
    return encoder, tokenizer


def klein(folder: Path) -> Path:
    """A FLUX.2 klein of a few thousand weights in `folder`; its network reads the outputs of Qwen's layers 9, 18 and 27."""
    torch.manual_seed(0)
    encoder, tokenizer = small_qwen(8, 28)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    randomize(transformer, 0.1)
    vae = AutoencoderKLFlux2(block_out_channels=(4, 4, 8, 8), latent_channels=4, norm_num_groups=2)
    vae.bn.running_mean.normal_(0, 0.3)
    vae.bn.running_var.uniform_(0.5, 3)
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder / "model")
    return _read_little(folder / "model")


def z_image(folder: Path) -> Path:
    """A Z-Image of a few thousand weights in `folder`."""
    torch.manual_seed(0)
    encoder, tokenizer = small_qwen(8, 3)
    transformer = ZImageTransformer2DModel(
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[4, 6, 6],
        axes_lens=[512, 64, 64],
    )
    randomize(transformer, 0.1)
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=autoencoder(
            16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159
        ),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder / "model")
    return _read_little(folder / "model")


def _read_little(model: Path) -> Path:
    (model / "rfgs.json").write_text(json.dumps({"max_sequence_length": READ}))
    return model


NAMES: dict[str, dict[str, Any]] = {
    "fp16": {"variant": "fp16"},
    "bf16": {"variant": "bf16"},
    "shards": {"max_shard_size": "8KB"},
    "fp16-shards": {"variant": "fp16", "max_shard_size": "8KB"},
    "bin": {"safe_serialization": False},
    "bin-shards": {"safe_serialization": False, "max_shard_size": "8KB"},
}
"""The standard sets of names that weights come under, and how diffusers and transformers are asked for them."""


def under_other_names(source: Path, target: Path, names: str) -> Path:
    """The Stable Diffusion 3 of `source` in `target`, its weights under another of the sets of `NAMES`."""
    shutil.copytree(source, target)
    kinds = {"transformer": SD3Transformer2DModel, "vae": AutoencoderKL}
    texts = {"text_encoder": CLIPTextModelWithProjection, "text_encoder_2": CLIPTextModelWithProjection}
    for part, kind in (kinds | texts | {"text_encoder_3": T5EncoderModel}).items():
        if not (source / part).is_dir():
            continue
        for file in [*(target / part).glob("*.safetensors"), *(target / part).glob("*.index.json")]:
            file.unlink()
        module, options = kind.from_pretrained(source, subfolder=part), dict(NAMES[names])
        if "variant" in options:
            module = module.to(torch.bfloat16 if names == "bf16" else torch.float16)
        if part in kinds:
            module.save_pretrained(target / part, **options)
        elif options.pop("safe_serialization", True):
            module.save_pretrained(target / part, **options)
        else:  # transformers writes no pickles any more, and reads them.
            torch.save(module.state_dict(), target / part / "pytorch_model.bin")
    return target


def in_the_cache(source: Path, cache: Path, hub_id: str) -> Path:
    """The model in `source` as the hub's client keeps it in its cache: a snapshot of links to blobs."""
    place = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    for number, file in enumerate(file for file in sorted(source.rglob("*")) if file.is_file()):
        blob, link = place / "blobs" / str(number), snapshot / file.relative_to(source)
        for folder in (blob.parent, link.parent):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    return snapshot


COMMIT = "1234567890" * 4
