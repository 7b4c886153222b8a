"""Makes `assets/tiny-sd` and, from it, `assets/tiny-instaflow`: the way from Stable Diffusion to InstaFlow in miniature.

    python -m rfgs.training.train_unet sd        --work W --start assets/tiny-sd3 --target assets/tiny-sd
    python -m rfgs.training.train_unet instaflow --work W --start assets/tiny-sd  --target assets/tiny-instaflow

`sd` takes tokenizer, text encoder and autoencoder of the model in `--start` and trains a UNet to predict noise. `instaflow`
goes on from such a UNet in three stages (Liu et al. 2023, "InstaFlow"):

    rectified    the same network learns the velocity of a rectified flow           (checkpoint; resumes)
    pairs        noise and what that flow makes of it, with guidance                (files of 256; resumes)
    reflowed     2-rectified flow: the same loss on those pairs                     (checkpoint; resumes)

Both use the pictures in W/data, which `rfgs.training.train` makes too. Every stage skips what is done.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from rfgs.training.draws import Draw
from rfgs.training.fitting import Drawing
from rfgs.training.latents import Latents, load_latents, split
from rfgs.training.train import (
    LEVELS,
    add_arguments,
    finish,
    open_tokenizer,
    prepare_data,
    reconstruction,
    told,
    train_part,
)
from rfgs.training.unet import (
    Pairs,
    TinyUNet,
    diffusion_loss,
    draw_pairs,
    load_average,
    new_scheduler,
    rectified_loss,
)
from rfgs.training.vae import load_trained

CHUNK = 256
StageLoss = Callable[[TinyUNet, Any, torch.Generator], Tensor]
"""Of a model, what was drawn for a step, and a generator of noise."""


def make_pairs(
    work: Path, model: TinyUNet, data: Latents, count: int, seed: int, steps: int, guidance_scale: float
) -> Pairs:
    """At least `count` pairs, in files of CHUNK that are made once."""
    folder = work / "pairs"
    folder.mkdir(exist_ok=True)
    parts = []
    for index in range(-(-count // CHUNK)):
        file = folder / f"{index:04d}.pt"
        if not file.exists():
            # Seeds of the stages must not meet: the same noise would be drawn.
            drawn = draw_pairs(
                model,
                data,
                CHUNK,
                seed * 1_000_003 + 500_000 + index,
                steps=steps,
                guidance_scale=guidance_scale,
            )
            torch.save(vars(drawn), file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file)
            print(f"pairs {CHUNK * (index + 1)}/{count}", flush=True)
        parts.append(Pairs(**torch.load(file, weights_only=True)))
    return Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("noise", "made", "ids")))


@torch.no_grad()
def loss_by_level(
    model: TinyUNet, data: Latents, kind: str, count: int = 512, seed: int = 7
) -> dict[str, float]:
    """The training loss at each of LEVELS: noise fractions of a flow, or shares of the steps of a diffusion model."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.arange(min(count, len(data)))
    drawn = data.draws.plain(pick, torch.rand(len(pick), generator=generator))
    x, ids = data.batch(drawn).x, drawn.ids
    e = torch.randn(x.shape, generator=generator)
    losses = {}
    for level in LEVELS.tolist():
        t = torch.full((len(x),), level)
        if kind == "sd":
            step = (1000 * t).long()
            a = new_scheduler().alphas_cumprod[step][:, None, None, None]
            loss = (model(a.sqrt() * x + (1 - a).sqrt() * e, step, ids) - e).square().mean()
        else:
            loss = rectified_loss(model, x, e, ids, t)
        losses[f"{level:.2f}"] = round(float(loss), 4)
    return losses


def export(work: Path, checkpoint: str, target: Path, training: dict, kind: str) -> None:
    """Write a model as a `StableDiffusionPipeline` in float16."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = load_average(work / checkpoint, tokenizer)
    pipeline = StableDiffusionPipeline(
        vae=load_trained(work / "vae.pt"),
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    finish(pipeline, target, training, {"family": kind})


def train_stage(
    args: argparse.Namespace,
    name: str,
    tokenizer: CLIPTokenizer,
    start: Path,
    minutes: float,
    data: Latents,
    loss_of: StageLoss,
    draw: Drawing | None = None,
) -> dict:
    """Train a UNet that begins as the one in `start` (a model's folder or a checkpoint); returns what is told of it."""
    torch.manual_seed(args.seed)
    model = TinyUNet(tokenizer)
    if start.is_dir():
        model.start_from(start)
    else:
        model.load_state_dict(torch.load(start, weights_only=True, map_location="cpu")["average"])
    train_part(args, name, model, TinyUNet(tokenizer), data, partial(loss_of, model), minutes, draw)
    state = torch.load(args.work / f"{name}.pt", weights_only=True, map_location="cpu")
    return {
        "steps": state["step"],
        "samples": state["step"] * args.batch,
        "minutes": round(state["spent"] / 60, 1),
    }


def train_sd(args: argparse.Namespace, tokenizer: CLIPTokenizer, data: Latents, check: Latents) -> None:
    """The diffusion model."""
    alpha_bars: Tensor = new_scheduler().alphas_cumprod

    def loss(model: TinyUNet, drawn: Draw, noise: torch.Generator) -> Tensor:
        return diffusion_loss(model, data, alpha_bars, drawn, noise)

    training = train_stage(args, "sd", tokenizer, args.start, args.minutes, data, loss)
    if args.target:
        training["vae_psnr_db"] = round(reconstruction(args.work), 2)
        training["noise_loss"] = loss_by_level(load_average(args.work / "sd.pt", tokenizer), check, "sd")
        export(args.work, "sd.pt", args.target, {**_command(args), **training}, "sd")


def train_instaflow(
    args: argparse.Namespace, tokenizer: CLIPTokenizer, data: Latents, check: Latents
) -> None:
    """The rectified flow and its reflow. The flow before its reflow is written to W/one-rectified, for comparison."""

    def rectified(model: TinyUNet, drawn: Draw, noise: torch.Generator) -> Tensor:
        x = data.batch(drawn).x
        e = torch.randn(x.shape, generator=noise, device=x.device)
        return rectified_loss(model, x, e, drawn.ids, drawn.t)

    training = {
        "rectified": train_stage(args, "rectified", tokenizer, args.start, args.minutes, data, rectified)
    }
    before = load_average(args.work / "rectified.pt", tokenizer)
    training["rectified"]["flow_loss"] = loss_by_level(before, check, "instaflow")
    export(args.work, "rectified.pt", args.work / "one-rectified", training, "instaflow")
    before.to(args.device).prepare(compile=False)
    pairs = make_pairs(
        args.work, before, data, args.pairs, args.seed, args.pair_steps, args.pair_guidance_scale
    )

    def reflow(model: TinyUNet, drawn: tuple[Tensor, ...], noise: torch.Generator) -> Tensor:
        x, e, ids, t = (part.to(args.device) for part in drawn)
        return rectified_loss(model, x, e, ids, t)

    training["reflowed"] = train_stage(
        args,
        "reflowed",
        tokenizer,
        args.work / "rectified.pt",
        args.reflow_minutes,
        data,
        reflow,
        partial(pairs.draw, args.batch),
    )
    if args.target:
        after = load_average(args.work / "reflowed.pt", tokenizer)
        # On pictures and noise that are not a pair: what a reflow gives up, and no measure of its quality.
        training["reflowed"]["flow_loss_unpaired"] = loss_by_level(after, check, "instaflow")
        export(args.work, "reflowed.pt", args.target, {**_command(args), **training}, "instaflow")


def _command(args: argparse.Namespace) -> dict:
    return {
        "command": f"python -m rfgs.training.train_unet {args.model} --work WORK --start {args.start} --target {args.target}",
        "arguments": told(args),
        "started_from": json.loads((args.start / "training.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=("sd", "instaflow"))
    add_arguments(parser)
    parser.add_argument("--start", type=Path, required=True, help="folder of the model to begin with")
    parser.add_argument(
        "--minutes", type=float, default=40, help="of processor time, or by the clock with --device cuda"
    )
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--pair-steps", type=int, default=12)
    parser.add_argument("--pair-guidance-scale", type=float, default=1.5, help="InstaFlow's")
    parser.add_argument("--reflow-minutes", type=float, default=15)
    args = parser.parse_args()
    prepare_data(args.work, args.images, args.seed, args.start)
    tokenizer = open_tokenizer(args.work / "tokenizer", args.start)
    data, check = split(load_latents(args.work, tokenizer))
    data = data.to(torch.device(args.device))
    (train_sd if args.model == "sd" else train_instaflow)(args, tokenizer, data, check)


if __name__ == "__main__":
    main()
