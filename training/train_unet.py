"""Makes `assets/tiny-sd` and, from it, `assets/tiny-instaflow`: the way from Stable Diffusion to InstaFlow in miniature.

    python -m training.train_unet sd        --work W --start assets/tiny-sd3 --target assets/tiny-sd
    python -m training.train_unet instaflow --work W --start assets/tiny-sd  --target assets/tiny-instaflow

`sd` takes tokenizer, text encoder and autoencoder of the model in `--start` and trains a UNet to predict noise. `instaflow`
goes on from such a UNet in three stages (Liu et al. 2023, "InstaFlow"):

    rectified    the same network learns the velocity of a rectified flow           (checkpoint; resumes)
    pairs        noise and what that flow makes of it, with guidance                (files of 256; resumes)
    reflowed     2-rectified flow: the same loss on those pairs                     (checkpoint; resumes)

With `--teacher assets/tiny-sd3` that model draws the pairs, and there is no first stage: the teacher's flow is straightened, in a
network of another make.

Both use the pictures in W/data, which `training.train` makes too. Every stage skips what is done.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTokenizer

from rfgs.priors import Prior, load_prior
from training.draws import Draw
from training.fitting import Drawing
from training.latents import Latents, load_latents, split
from training.train import (
    LEVELS,
    Training,
    deciding,
    finish,
    open_tokenizer,
    prepare_data,
    reconstruction,
    train_part,
)
from training.unet import (
    Pairs,
    TinyUNet,
    diffusion_loss,
    draw_pairs,
    load_average,
    new_scheduler,
    rectified_loss,
)
from training.vae import load_trained

CHUNK = 256
StageLoss = Callable[[TinyUNet, Any, torch.Generator], Tensor]
"""Of a model, what was drawn for a step, and a generator of noise."""


def make_pairs(
    work: Path, teacher: Prior, data: Latents, count: int, seed: int, steps: int, guidance_scale: float
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
                teacher,
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


@dataclass(kw_only=True)
class Options(Training):
    model: Annotated[Literal["sd", "instaflow"], tyro.conf.Positional]
    """What to make."""
    start: Path
    """Folder of the model to begin with."""
    teacher: Path | None = None
    """instaflow: folder of a flow that draws the pairs; none is the flow that it becomes first."""
    minutes: float = 40
    """Of processor time, or by the clock with --device cuda."""
    pairs: int = 10_000
    """Pairs of the reflow."""
    pair_steps: int = 12
    """Steps to a pair's picture."""
    pair_guidance_scale: float = 1.5
    """InstaFlow's."""
    reflow_minutes: float = 15
    """As --minutes, for the reflow."""


def train_stage(
    options: Options,
    name: str,
    tokenizer: CLIPTokenizer,
    start: Path,
    minutes: float,
    data: Latents,
    loss_of: StageLoss,
    draw: Drawing | None = None,
) -> dict:
    """Train a UNet that begins as the one in `start` (a model's folder or a checkpoint); returns what is told of it."""
    torch.manual_seed(options.seed)
    model = TinyUNet(tokenizer)
    if start.is_dir():
        model.start_from(start)
    else:
        model.load_state_dict(torch.load(start, weights_only=True, map_location="cpu")["average"])
    train_part(options, name, model, TinyUNet(tokenizer), data, partial(loss_of, model), minutes, draw)
    state = torch.load(options.work / f"{name}.pt", weights_only=True, map_location="cpu")
    return {
        "steps": state["step"],
        "samples": state["step"] * options.batch,
        "minutes": round(state["spent"] / 60, 1),
    }


def train_sd(options: Options, tokenizer: CLIPTokenizer, data: Latents, check: Latents) -> None:
    """The diffusion model."""
    alpha_bars: Tensor = new_scheduler().alphas_cumprod

    def loss(model: TinyUNet, drawn: Draw, noise: torch.Generator) -> Tensor:
        return diffusion_loss(model, data, alpha_bars, drawn, noise)

    training = train_stage(options, "sd", tokenizer, options.start, options.minutes, data, loss)
    if options.target:
        training["vae_psnr_db"] = round(reconstruction(options.work), 2)
        training["noise_loss"] = loss_by_level(load_average(options.work / "sd.pt", tokenizer), check, "sd")
        export(options.work, "sd.pt", options.target, {**_command(options), **training}, "sd")


def train_instaflow(options: Options, tokenizer: CLIPTokenizer, data: Latents, check: Latents) -> None:
    """The rectified flow and its reflow; with a teacher only the reflow.

    The flow before its reflow is written to W/one-rectified, for comparison.
    """

    def rectified(model: TinyUNet, drawn: Draw, noise: torch.Generator) -> Tensor:
        x = data.batch(drawn).x
        e = torch.randn(x.shape, generator=noise, device=x.device)
        return rectified_loss(model, x, e, drawn.ids, drawn.t)

    training: dict[str, Any] = {}
    start, teacher = options.start, options.teacher
    if teacher is None:
        training["rectified"] = train_stage(
            options, "rectified", tokenizer, options.start, options.minutes, data, rectified
        )
        start, teacher = options.work / "rectified.pt", options.work / "one-rectified"
        flow = load_average(start, tokenizer)
        training["rectified"]["flow_loss"] = loss_by_level(flow, check, "instaflow")
        export(options.work, start.name, teacher, training, "instaflow")
    pairs = make_pairs(
        options.work,
        load_prior(teacher, device=options.device),
        data,
        options.pairs,
        options.seed,
        options.pair_steps,
        options.pair_guidance_scale,
    )

    def reflow(model: TinyUNet, drawn: tuple[Tensor, ...], noise: torch.Generator) -> Tensor:
        x, e, ids, t = (part.to(options.device) for part in drawn)
        return rectified_loss(model, x, e, ids, t)

    training["reflowed"] = train_stage(
        options,
        "reflowed",
        tokenizer,
        start,
        options.reflow_minutes,
        data,
        reflow,
        partial(pairs.draw, options.batch),
    )
    if options.target:
        after = load_average(options.work / "reflowed.pt", tokenizer)
        # On pictures and noise that are not a pair: what a reflow gives up, and no measure of its quality.
        training["reflowed"]["flow_loss_unpaired"] = loss_by_level(after, check, "instaflow")
        export(options.work, "reflowed.pt", options.target, {**_command(options), **training}, "instaflow")


def _command(options: Options) -> dict:
    places = f"--work WORK --start {options.start} --target {options.target}"
    return {
        "command": f"python -m training.train_unet {options.model} {places}",
        "arguments": deciding(options),
        "started_from": json.loads((options.start / "training.json").read_text()),
    }


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    prepare_data(options.work, options.images, options.seed, options.start)
    tokenizer = open_tokenizer(options.work / "tokenizer", options.start)
    data, check = split(load_latents(options.work, tokenizer))
    data = data.to(torch.device(options.device))
    (train_sd if options.model == "sd" else train_instaflow)(options, tokenizer, data, check)


if __name__ == "__main__":
    main()
