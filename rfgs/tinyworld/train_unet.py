"""Makes `assets/tiny-sd` and, from it, `assets/tiny-instaflow`: the way from Stable Diffusion to InstaFlow in miniature.

    python -m rfgs.tinyworld.train_unet sd        --work W --start assets/tiny-sd3 --target assets/tiny-sd
    python -m rfgs.tinyworld.train_unet instaflow --work W --start assets/tiny-sd  --target assets/tiny-instaflow

`sd` takes tokenizer, text encoder and autoencoder of the model in `--start` and trains a UNet to predict noise. `instaflow`
goes on from such a UNet in three stages (Liu et al. 2023, "InstaFlow"):

    rectified    the same network learns the velocity of a rectified flow           (checkpoint; resumes)
    pairs        noise and what that flow makes of it, with guidance                (files of 256; resumes)
    reflowed     2-rectified flow: the same loss on those pairs                     (checkpoint; resumes)

Both use the pictures in W/data, which `rfgs.tinyworld.train` makes too. Every stage skips what is done.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from rfgs.tinyworld.fitting import fit
from rfgs.tinyworld.latents import Latents, load_latents, split
from rfgs.tinyworld.prior import draw_times
from rfgs.tinyworld.train import LEVELS, finish, log, open_tokenizer, prepare_data, reconstruction, told
from rfgs.tinyworld.unet import (
    Pairs,
    TinyUNet,
    diffusion_loss,
    draw_pairs,
    load_average,
    new_scheduler,
    rectified_loss,
)
from rfgs.tinyworld.vae import load_trained

CHUNK = 256
StageLoss = Callable[[TinyUNet, torch.Generator], Tensor]


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
    x, ids = data.plain(pick, torch.rand(len(pick), generator=generator))
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
    loss_of: StageLoss,
) -> dict:
    """Train a UNet that begins as the one in `start` (a model's folder or a checkpoint); returns what is told of it."""
    torch.manual_seed(args.seed)
    model = TinyUNet(tokenizer)
    if start.is_dir():
        model.start_from(start)
    else:
        model.load_state_dict(torch.load(start, weights_only=True)["average"])
    checkpoint = args.work / f"{name}.pt"
    events = fit(
        model,
        TinyUNet(tokenizer),
        lambda generator: loss_of(model, generator),
        checkpoint,
        seconds=60 * minutes,
        seed=args.seed,
        rate=args.rate,
    )
    log(args.work, name, events)
    state = torch.load(checkpoint, weights_only=True)
    return {
        "steps": state["step"],
        "samples": state["step"] * args.batch,
        "minutes": round(state["spent"] / 60, 1),
    }


def train_sd(args: argparse.Namespace, tokenizer: CLIPTokenizer, data: Latents, check: Latents) -> None:
    """The diffusion model."""
    alpha_bars: Tensor = new_scheduler().alphas_cumprod

    def loss(model: TinyUNet, generator: torch.Generator) -> Tensor:
        return diffusion_loss(model, data, alpha_bars, args.batch, generator)

    training = train_stage(args, "sd", tokenizer, args.start, args.minutes, loss)
    if args.target:
        training["vae_psnr_db"] = round(reconstruction(args.work), 2)
        training["noise_loss"] = loss_by_level(load_average(args.work / "sd.pt", tokenizer), check, "sd")
        export(args.work, "sd.pt", args.target, {**_command(args), **training}, "sd")


def train_instaflow(
    args: argparse.Namespace, tokenizer: CLIPTokenizer, data: Latents, check: Latents
) -> None:
    """The rectified flow and its reflow. The flow before its reflow is written to W/one-rectified, for comparison."""

    def rectified(model: TinyUNet, generator: torch.Generator) -> Tensor:
        drawn = data.batch(args.batch, generator)
        t = draw_times(args.batch, generator)
        return rectified_loss(
            model, drawn.x, torch.randn(drawn.x.shape, generator=generator), drawn.ids, t
        )

    training = {"rectified": train_stage(args, "rectified", tokenizer, args.start, args.minutes, rectified)}
    before = load_average(args.work / "rectified.pt", tokenizer)
    training["rectified"]["flow_loss"] = loss_by_level(before, check, "instaflow")
    export(args.work, "rectified.pt", args.work / "one-rectified", training, "instaflow")
    before.prepare(compile=False)
    pairs = make_pairs(
        args.work, before, data, args.pairs, args.seed, args.pair_steps, args.pair_guidance_scale
    )

    def reflow(model: TinyUNet, generator: torch.Generator) -> Tensor:
        x, e, ids = pairs.batch(args.batch, generator)
        return rectified_loss(model, x, e, ids, torch.rand(args.batch, generator=generator))

    training["reflowed"] = train_stage(
        args, "reflowed", tokenizer, args.work / "rectified.pt", args.reflow_minutes, reflow
    )
    if args.target:
        after = load_average(args.work / "reflowed.pt", tokenizer)
        # On pictures and noise that are not a pair: what a reflow gives up, and no measure of its quality.
        training["reflowed"]["flow_loss_unpaired"] = loss_by_level(after, check, "instaflow")
        export(args.work, "reflowed.pt", args.target, {**_command(args), **training}, "instaflow")


def _command(args: argparse.Namespace) -> dict:
    return {
        "command": f"python -m rfgs.tinyworld.train_unet {args.model} --work WORK --start {args.start} --target {args.target}",
        "arguments": told(args),
        "started_from": json.loads((args.start / "training.json").read_text()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=("sd", "instaflow"))
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--start", type=Path, required=True, help="folder of the model to begin with")
    parser.add_argument("--target", type=Path, help="folder of the model to write")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--minutes", type=float, default=40, help="of processor time, as all budgets")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--pair-steps", type=int, default=12)
    parser.add_argument("--pair-guidance-scale", type=float, default=1.5, help="InstaFlow's")
    parser.add_argument("--reflow-minutes", type=float, default=15)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prepare_data(args.work, args.images, args.seed, args.start)
    tokenizer = open_tokenizer(args.work / "tokenizer", args.start)
    data, check = split(load_latents(args.work, tokenizer))
    (train_sd if args.model == "sd" else train_instaflow)(args, tokenizer, data, check)


if __name__ == "__main__":
    main()
