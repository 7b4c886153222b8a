"""Makes `assets/tiny-sd3` from nothing: `python -m rfgs.tinyworld.train --work FOLDER` runs all stages in order.

    data      render the training pictures                    (shards; resumes)
    vae       train the autoencoder                           (checkpoint; resumes)
    latents   encode all pictures once, over plain backgrounds
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
from transformers import CLIPTokenizer

from rfgs.tinyworld.data import IMAGE_SIZE, composite, load_labels, open_images, render_dataset
from rfgs.tinyworld.prior import Latents, flow_loss_by_level, load_average, train_prior
from rfgs.tinyworld.scenes import vocabulary
from rfgs.tinyworld.text import FUTURE_WORDS, MAX_TOKENS, write_tokenizer
from rfgs.tinyworld.vae import load_trained, psnr, random_crops, train_vae

LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
_CHECK = 1024  # Samples at the end of the data that are kept for measuring.


def encode_dataset(work: Path, seed: int) -> None:
    """Write `latents.pt`: shifted and scaled latents [N, 16, 16, 16] float16, `shift` and `scale` of SD3's convention."""
    vae = load_trained(work / "vae.pt")
    parts = []
    for index, shard in enumerate(open_images(work / "data")):
        rng = np.random.default_rng([seed, 1, index])
        for start in range(0, len(shard), 50):
            images = torch.from_numpy(composite(shard[start : start + 50], rng)) * 2 - 1
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                parts.append(vae.encode(images).latent_dist.mode().half())
    latents = torch.cat(parts)
    shift, scale = latents.float().mean().item(), 1 / latents.float().std().item()
    for start in range(0, len(latents), 1000):
        latents[start : start + 1000] = ((latents[start : start + 1000].float() - shift) * scale).half()
    torch.save({"latents": latents, "shift": shift, "scale": scale}, work / "latents.pt")


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in `folder`, written first where there is none."""
    # Never written twice: the trainer breaks ties in random order, so token ids differ from one writing to the next,
    # and weights trained with one tokenizer read the words of another wrongly.
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    return write_tokenizer(sorted({*vocabulary(), *FUTURE_WORDS.split()}), folder)


def load_latents(work: Path, tokenizer: CLIPTokenizer) -> Latents:
    """The training data of the prior."""
    labels = load_labels(work / "data")

    def ids(texts: list[str]) -> torch.Tensor:
        encoded = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
        return torch.tensor(encoded.input_ids)

    latents = torch.load(work / "latents.pt", weights_only=True)["latents"]
    labels = labels[: len(latents)]
    return Latents(
        latents,
        ids([f"{label['caption']}, {label['view']}" for label in labels]),
        ids([label["caption"] for label in labels]),
        ids([""])[0],
    )


def split(data: Latents) -> tuple[Latents, Latents]:
    """What to train on, and the last samples, which are only measured."""

    def part(rows: slice) -> Latents:
        return Latents(data.latents[rows], data.ids[rows], data.ids_without_view[rows], data.empty)

    return part(slice(0, -_CHECK)), part(slice(-_CHECK, None))


def export(work: Path, target: Path, training: dict) -> None:
    """Write the trained parts as a `StableDiffusion3Pipeline` in float16, and `training.json`."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = load_average(work / "prior.pt", tokenizer)
    stored = torch.load(work / "latents.pt", weights_only=True)
    vae = load_trained(work / "vae.pt")
    vae.register_to_config(scaling_factor=stored["scale"], shift_factor=stored["shift"])
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
        decoded = torch.cat([vae.decode(vae.encode(x).latent_dist.mode()).sample for x in images.split(16)])
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
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--vae-minutes", type=float, default=10)
    parser.add_argument("--prior-minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=96)
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
        vae_options = {"seconds": args.vae_minutes * 60, "seed": args.seed}
        _log(args.work, "vae", train_vae(args.work / "data", args.work / "vae.pt", **vae_options))
        encode_dataset(args.work, args.seed)
        print("latents written", flush=True)
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
