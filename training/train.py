"""Makes `assets/tiny-sd3` from nothing: `python -m training.train --work FOLDER` runs all stages in order.

    data      render the training pictures                    (shards; resumes)
    latents   fit the linear encoder, encode all pictures and what shows behind them
    decoder   train the decoder                               (checkpoint; resumes)
    prior     train transformer and text encoders             (checkpoint; resumes)
    export    write the model in diffusers' SD3 layout, float16, with `training.json` beside it

Every stage skips what is done, so an interrupted run goes on with the same command. `--start FOLDER` goes on from a model that
was exported: with its tokenizer, autoencoder and weights, on new pictures.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from transformers import CLIPTokenizer

from rfgs.priors.autoencoder import Autoencoder
from rfgs.tinyworld.language import vocabulary
from rfgs.tinyworld.pictures import IMAGE_SIZE
from training.data import open_shards, render_dataset, rendering
from training.fitting import Drawing, fit
from training.latents import Latents, encode_dataset, load_latents, split, take_new_pictures
from training.prior import TinySD3, flow_loss, flow_loss_by_level, load_average
from training.text import write_tokenizer
from training.vae import load_trained, psnr, random_crops, train_decoder

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.98])


def open_tokenizer(folder: Path, start: Path | None = None) -> CLIPTokenizer:
    """The tokenizer in `folder`, written first where there is none, or copied from the model in `start` if it has all words."""
    # Never written twice: the trainer breaks ties in random order, so token ids differ from one writing to the next,
    # and weights trained with one tokenizer read the words of another wrongly.
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    if start is not None:
        theirs = CLIPTokenizer.from_pretrained(start / "tokenizer")
        if {f"{word}</w>" for word in vocabulary()} <= set(theirs.get_vocab()):
            theirs.save_pretrained(folder)
            return CLIPTokenizer.from_pretrained(folder)
    return write_tokenizer(vocabulary(), folder)


def export(work: Path, target: Path, training: dict) -> None:
    """Write the trained parts as a `StableDiffusion3Pipeline` in float16, and `training.json`."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = load_average(work / "prior.pt", tokenizer)
    vae = load_trained(work / "vae.pt")
    pipeline = StableDiffusion3Pipeline(
        transformer=model.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    # T5's place stays empty: its zeros would cost 256 tokens in every evaluation. See `rfgs.priors.sd3`.
    finish(pipeline, target, training, {"max_sequence_length": 0})


def finish(pipeline: Any, target: Path, training: dict, said: dict) -> None:
    """Write a pipeline in float16, `rfgs.json` with the vocabulary and what else is `said`, and `training.json`."""
    pipeline.to(torch.float16).save_pretrained(target)
    # diffusers writes what its own constructor adds, and warns of it when it reads it again.
    config = json.loads((target / "vae" / "config.json").read_text())
    config.pop("block_out_channels", None)
    (target / "vae" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (target / "rfgs.json").write_text(json.dumps({**said, "vocabulary": vocabulary()}, indent=2) + "\n")
    (target / "training.json").write_text(json.dumps(training, indent=2) + "\n")


@torch.no_grad()
def reconstruction(work: Path) -> float:
    """PSNR in dB of the autoencoder on 128 unseen pictures."""
    vae = load_trained(work / "vae.pt")
    images = random_crops(open_shards(work / "data")[-1:], 128, IMAGE_SIZE, np.random.default_rng(7))
    return psnr(images, torch.cat([vae.decode(vae.encode(x).latents).sample for x in images.split(16)]))


def measure(work: Path) -> dict:
    """The figures that go beside the weights: reconstruction PSNR and the flow loss per noise level, on unseen pictures."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    check = split(load_latents(work, tokenizer))[1]
    losses = flow_loss_by_level(load_average(work / "prior.pt", tokenizer), check, LEVELS, 512, seed=7)
    return {
        "vae_psnr_db": round(reconstruction(work), 2),
        "flow_loss": {
            f"{level:.2f}": round(loss, 4) for level, loss in zip(LEVELS.tolist(), losses, strict=True)
        },
    }


def log(work: Path, stage: str, events: Iterator[dict]) -> None:
    with (work / f"{stage}.jsonl").open("a") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
            file.flush()
            print(stage, json.dumps(event), flush=True)


def prepare_data(work: Path, images: int, seed: int, start: Path | None) -> None:
    """Render the pictures and encode them; with `start`, by the autoencoder of that model, which is copied to `vae.pt`."""
    work.mkdir(parents=True, exist_ok=True)
    began = time.time()
    for done in render_dataset(work / "data", images, seed):
        if done % 5000 == 0:
            print(f"data {done}/{images} {time.time() - began:.0f} s", flush=True)
    encoder = None
    if start is not None and not (work / "vae.pt").exists():
        autoencoder = Autoencoder.load(str(start), device=torch.device("cpu"))
        encoder = autoencoder.linear
        torch.save({"vae": autoencoder.module.state_dict()}, work / "vae.pt")
    if not (work / "latents.pt").exists():
        encode_dataset(work, seed, encoder)
        print("latents written", flush=True)


@dataclass(kw_only=True)
class Training:
    """What all programs that train a prior take."""

    work: Path
    """Folder for data and checkpoints, 8 GB."""
    target: Path | None = None
    """Folder of the model to write; none stops before the export."""
    images: int = 60_000
    """Pictures to render before training."""
    more_images: int = 0
    """Pictures that --workers render while it trains."""
    workers: int = 0
    """Processes that draw ahead, and as many that render."""
    device: str = "cpu"
    """Where to train: cpu or cuda."""
    batch: int = 128
    """Pictures a step."""
    rate: float = 1e-3
    """The highest learning rate."""
    exact: int = 8
    """Pictures that a target is averaged over; 1 is the sample's own alone."""
    seed: int = 0
    """Of pictures, weights and draws."""
    compile: bool = False
    """torch.compile: faster, needs a C++ compiler."""


@dataclass(kw_only=True)
class Options(Training):
    start: Path | None = None
    """Folder of a model to go on from; none starts from nothing."""
    vae_minutes: float = 10
    """For the decoder; none with --start."""
    prior_minutes: float = 90
    """Of processor time, or by the clock with --device cuda."""


def train_part(
    options: Training,
    name: str,
    model: Any,
    average: Any,
    data: Latents,
    loss_of: Callable[[Any, torch.Generator], torch.Tensor],
    minutes: float,
    draw: Drawing | None = None,
) -> None:
    """Train a model that draws from `data`, with the checkpoint `name`.pt; pictures may go on being rendered meanwhile."""
    with ExitStack() as stack:
        if options.more_images:
            total = options.images + options.more_images
            stack.enter_context(rendering(options.work / "data", total, options.seed, options.workers or 1))
        events = fit(
            model.to(options.device),
            average,
            draw or partial(data.draws.draw, options.batch, options.exact),
            loss_of,
            options.work / f"{name}.pt",
            seconds=minutes * 60,
            seed=options.seed,
            rate=options.rate,
            compile=options.compile,
            workers=options.workers,
            refresh=partial(take_new_pictures, data, options.work),
        )
        log(options.work, name, events)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    prepare_data(options.work, options.images, options.seed, options.start)
    if not options.start:
        stored = torch.load(options.work / "latents.pt", weights_only=True, mmap=True)
        log(
            options.work,
            "vae",
            train_decoder(
                options.work / "data",
                stored["kernel"],
                stored["bias"],
                options.work / "vae.pt",
                seconds=options.vae_minutes * 60,
                seed=options.seed,
            ),
        )
    tokenizer = open_tokenizer(options.work / "tokenizer", options.start)
    data = split(load_latents(options.work, tokenizer))[0].to(torch.device(options.device))
    torch.manual_seed(options.seed)
    model = TinySD3(tokenizer)
    if options.start:
        model.start_from(options.start)
    train_part(
        options,
        "prior",
        model,
        TinySD3(tokenizer),
        data,
        partial(flow_loss, model, data),
        options.prior_minutes,
    )
    if options.target:
        state = torch.load(options.work / "prior.pt", weights_only=True, map_location="cpu")
        training = {
            "command": "python -m training.train --work WORK --target assets/tiny-sd3",
            "arguments": deciding(options),
            "steps": state["step"],
            "samples": state["step"] * options.batch,
            "minutes": round(state["spent"] / 60, 1),
            **measure(options.work),
        }
        if options.start:
            training["started_from"] = json.loads((options.start / "training.json").read_text())
        export(options.work, options.target, training)
        print(json.dumps(training, indent=2))


def deciding(options: Training) -> dict[str, str]:
    """The arguments that decide the result, for `training.json`."""
    return {name: str(value) for name, value in vars(options).items() if name not in ("work", "target")}


if __name__ == "__main__":
    main()
