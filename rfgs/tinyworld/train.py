"""Makes `assets/tiny-sd3` from nothing: `python -m rfgs.tinyworld.train --work FOLDER` runs all stages in order.

    data      render the training pictures                    (shards; resumes)
    latents   fit the linear encoder, encode all pictures and what shows behind them
    decoder   train the decoder                               (checkpoint; resumes)
    prior     train transformer and text encoders             (checkpoint; resumes)
    export    write the model in diffusers' SD3 layout, float16, with `training.json` beside it

Every stage skips what is done, so an interrupted run goes on with the same command.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch.nn import functional as F
from transformers import CLIPTokenizer

from rfgs.tinyworld.data import IMAGE_SIZE, composite, load_labels, open_images, render_dataset
from rfgs.tinyworld.prior import Latents, flow_loss_by_level, load_average, train_prior
from rfgs.tinyworld.scenes import vocabulary
from rfgs.tinyworld.text import MAX_TOKENS, write_tokenizer
from rfgs.tinyworld.vae import PATCH, fit_encoder, load_trained, psnr, random_crops, train_decoder

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
_CHECK = 1024  # Samples at the end of the data that are kept for measuring.


def encode_dataset(work: Path, seed: int) -> None:
    """Fit the encoder and encode all pictures: writes `latents.pt` with `kernel`, `bias`, `objects` and `backdrops`."""
    shards = open_images(work / "data")
    rng = np.random.default_rng(seed)
    sample = np.concatenate([shard[:: max(1, len(shards) // 8)] for shard in shards])[:8000]
    kernel, bias = fit_encoder(torch.from_numpy(composite(sample, rng)))
    objects, backdrops = [], []
    for shard in shards:
        rgba = torch.from_numpy(np.array(shard)).permute(0, 3, 1, 2).float() / 255
        behind = (1 - rgba[:, 3:]).expand(-1, 3, -1, -1)
        objects.append(F.conv2d(rgba[:, :3], kernel, bias, stride=PATCH).half())
        backdrops.append(F.conv2d(behind, kernel, stride=PATCH).half())
    stored = {"objects": torch.cat(objects), "backdrops": torch.cat(backdrops)}
    torch.save({"kernel": kernel, "bias": bias, **stored}, work / "latents.pt")


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in `folder`, written first where there is none."""
    # Never written twice: the trainer breaks ties in random order, so token ids differ from one writing to the next,
    # and weights trained with one tokenizer read the words of another wrongly.
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    return write_tokenizer(vocabulary(), folder)


def load_latents(work: Path, tokenizer: CLIPTokenizer) -> Latents:
    """The training data of the prior."""
    labels = load_labels(work / "data")

    def ids(texts: list[str]) -> torch.Tensor:
        encoded = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)

    stored = torch.load(work / "latents.pt", weights_only=True, mmap=True)
    labels = labels[: len(stored["objects"])]
    return Latents(
        stored["objects"],
        stored["backdrops"],
        ids([f"{label['caption']}, {label['view']}" for label in labels]),
        ids([label["caption"] for label in labels]),
        ids([""])[0],
    )


def split(data: Latents) -> tuple[Latents, Latents]:
    """What to train on, and the last samples, which are only measured."""

    def part(rows: slice) -> Latents:
        return Latents(
            data.objects[rows], data.backdrops[rows], data.ids[rows], data.ids_without_view[rows], data.empty
        )

    return part(slice(0, -_CHECK)), part(slice(-_CHECK, None))


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
    pipeline.to(torch.float16).save_pretrained(target)
    # diffusers writes what its own constructor adds, and warns of it when it reads it again.
    config = json.loads((target / "vae" / "config.json").read_text())
    config.pop("block_out_channels", None)
    (target / "vae" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    # T5's place stays empty: its zeros would cost 256 tokens in every evaluation. See `rfgs.priors.sd3`.
    (target / "rfgs.json").write_text(
        json.dumps({"max_sequence_length": 0, "vocabulary": vocabulary()}, indent=2) + "\n"
    )
    (target / "training.json").write_text(json.dumps(training, indent=2) + "\n")


def measure(work: Path) -> dict:
    """The figures that go beside the weights: reconstruction PSNR and the flow loss per noise level, on unseen pictures."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    vae = load_trained(work / "vae.pt")
    images = random_crops(open_images(work / "data")[-1:], 128, IMAGE_SIZE, np.random.default_rng(7))
    with torch.no_grad():
        decoded = torch.cat([vae.decode(vae.encode(x).latents).sample for x in images.split(16)])
    _, check = split(load_latents(work, tokenizer))
    losses = flow_loss_by_level(load_average(work / "prior.pt", tokenizer), check, LEVELS, 512, seed=7)
    return {
        "vae_psnr_db": round(psnr(images, decoded), 2),
        "flow_loss": {
            f"{level:.2f}": round(loss, 4) for level, loss in zip(LEVELS.tolist(), losses, strict=True)
        },
    }


def _log(work: Path, stage: str, events: Iterator[dict]) -> None:
    with (work / f"{stage}.jsonl").open("a") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
            file.flush()
            print(stage, json.dumps(event), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for data and checkpoints (about 4 GB)"
    )
    parser.add_argument(
        "--target", type=Path, help="folder of the model to write; none stops before the export"
    )
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--vae-minutes", type=float, default=10)
    parser.add_argument("--prior-minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: 1.3x faster, needs a C++ compiler"
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    began = time.time()
    for done in render_dataset(args.work / "data", args.images, args.seed):
        if done % 5000 == 0:
            print(f"data {done}/{args.images} {time.time() - began:.0f} s", flush=True)
    if not (args.work / "latents.pt").exists():
        encode_dataset(args.work, args.seed)
        print("latents written", flush=True)
    stored = torch.load(args.work / "latents.pt", weights_only=True, mmap=True)
    _log(
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
    tokenizer = open_tokenizer(args.work / "tokenizer")
    train, _ = split(load_latents(args.work, tokenizer))
    _log(
        args.work,
        "prior",
        train_prior(
            train,
            tokenizer,
            args.work / "prior.pt",
            seconds=args.prior_minutes * 60,
            seed=args.seed,
            batch=args.batch,
            compile=args.compile,
        ),
    )
    if args.target:
        state = torch.load(args.work / "prior.pt", weights_only=True)
        arguments = {name: str(value) for name, value in vars(args).items() if name not in ("work", "target")}
        training = {
            "command": "python -m rfgs.tinyworld.train --work WORK --target assets/tiny-sd3",
            "arguments": arguments,
            "steps": state["step"],
            "samples": state["step"] * args.batch,
            "minutes": round(state["spent"] / 60, 1),
            **measure(args.work),
        }
        export(args.work, args.target, training)
        print(json.dumps(training, indent=2))


if __name__ == "__main__":
    main()
