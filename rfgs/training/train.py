"""Makes `assets/tiny-sd3` from nothing: `python -m rfgs.training.train --work FOLDER` runs all stages in order.

    data      render the training pictures                    (shards; resumes)
    latents   fit the linear encoder, encode all pictures and what shows behind them
    decoder   train the decoder                               (checkpoint; resumes)
    prior     train transformer and text encoders             (checkpoint; resumes)
    export    write the model in diffusers' SD3 layout, float16, with `training.json` beside it

Every stage skips what is done, so an interrupted run goes on with the same command. `--start FOLDER` goes on from a model that
was exported: with its tokenizer, autoencoder and weights, on new pictures.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from transformers import CLIPTokenizer

from rfgs.priors.autoencoder import Autoencoder
from rfgs.tinyworld.language import vocabulary
from rfgs.tinyworld.pictures import IMAGE_SIZE
from rfgs.training.data import open_shards, render_dataset, rendering
from rfgs.training.fitting import Drawing, fit
from rfgs.training.latents import Latents, encode_dataset, load_latents, split, take_new_pictures
from rfgs.training.prior import TinySD3, flow_loss, flow_loss_by_level, load_average
from rfgs.training.text import write_tokenizer
from rfgs.training.vae import load_trained, psnr, random_crops, train_decoder

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What all programs that train a prior take."""
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints, 8 GB")
    parser.add_argument(
        "--target", type=Path, help="folder of the model to write; none stops before the export"
    )
    parser.add_argument("--images", type=int, default=60_000, help="pictures to render before training")
    parser.add_argument(
        "--more-images", type=int, default=0, help="pictures that --workers render while it trains"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that draw ahead, and as many that render"
    )
    parser.add_argument("--device", default="cpu", help="where to train: cpu or cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument(
        "--exact",
        type=int,
        default=8,
        help="pictures that a target is averaged over; 1 is the sample's own alone",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile: faster, needs a C++ compiler")


def train_part(
    args: argparse.Namespace,
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
        if args.more_images:
            total = args.images + args.more_images
            stack.enter_context(rendering(args.work / "data", total, args.seed, args.workers or 1))
        events = fit(
            model.to(args.device),
            average,
            draw or partial(data.draws.draw, args.batch, args.exact),
            loss_of,
            args.work / f"{name}.pt",
            seconds=minutes * 60,
            seed=args.seed,
            rate=args.rate,
            compile=args.compile,
            workers=args.workers,
            refresh=partial(take_new_pictures, data, args.work),
        )
        log(args.work, name, events)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--start", type=Path, help="folder of a model to go on from; none starts from nothing"
    )
    parser.add_argument("--vae-minutes", type=float, default=10, help="for the decoder; none with --start")
    parser.add_argument(
        "--prior-minutes",
        type=float,
        default=90,
        help="of processor time, or by the clock with --device cuda",
    )
    args = parser.parse_args()
    prepare_data(args.work, args.images, args.seed, args.start)
    if not args.start:
        stored = torch.load(args.work / "latents.pt", weights_only=True, mmap=True)
        log(
            args.work,
            "vae",
            train_decoder(
                args.work / "data",
                stored["kernel"],
                stored["bias"],
                args.work / "vae.pt",
                seconds=args.vae_minutes * 60,
                seed=args.seed,
            ),
        )
    tokenizer = open_tokenizer(args.work / "tokenizer", args.start)
    data = split(load_latents(args.work, tokenizer))[0].to(torch.device(args.device))
    torch.manual_seed(args.seed)
    model = TinySD3(tokenizer)
    if args.start:
        model.start_from(args.start)
    train_part(
        args, "prior", model, TinySD3(tokenizer), data, partial(flow_loss, model, data), args.prior_minutes
    )
    if args.target:
        state = torch.load(args.work / "prior.pt", weights_only=True, map_location="cpu")
        training = {
            "command": "python -m rfgs.training.train --work WORK --target assets/tiny-sd3",
            "arguments": told(args),
            "steps": state["step"],
            "samples": state["step"] * args.batch,
            "minutes": round(state["spent"] / 60, 1),
            **measure(args.work),
        }
        if args.start:
            training["started_from"] = json.loads((args.start / "training.json").read_text())
        export(args.work, args.target, training)
        print(json.dumps(training, indent=2))


def told(args: argparse.Namespace) -> dict[str, str]:
    """The arguments that decide the result, for `training.json`."""
    return {name: str(value) for name, value in vars(args).items() if name not in ("work", "target")}


if __name__ == "__main__":
    main()
