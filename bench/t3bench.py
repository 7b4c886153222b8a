"""What T3Bench's protocol costs on a CPU: the 810 views of one asset, and what ImageReward makes of some of them.

    python bench/t3bench.py                      # a ball of splats, and the network at full size with random weights
    python bench/t3bench.py --asset runs/a-cactus-7 --pictures 0

Each half is measured in a process of its own, so that its peak of memory is its own. "anonymous" is what cannot be given back:
weights lie in a file that the system may read again.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from program import RESULTS, start

from rfgs.measure import t3bench
from rfgs.measure.image_reward import VOCABULARY, WEIGHTS, load_image_reward
from rfgs.measure.rows import made_by, write_rows
from rfgs.models import machine
from rfgs.splats import ball


@dataclass
class Options:
    asset: Path | None = None
    """A file of splats or a run; a ball of random splats if none is given."""
    splats: int = 6000
    """In that ball."""
    pictures: int = 16
    """Scored by ImageReward; 0 leaves it out."""
    threads: int = 2
    only: str = ""
    """One half, in this process: views or rewards."""
    output: Path = RESULTS / "t3bench.jsonl"


def views(options: Options) -> dict:
    """Renders all views, with a scorer that costs nothing."""
    if options.asset is None:
        splats = ball(options.splats, radius=0.7, generator=torch.Generator().manual_seed(0), opacity=0.5)
    else:
        splats = t3bench.asset(options.asset)
    t3bench.pictures(splats, t3bench.quality_views()[:1])  # Compiles.
    begun, worked = time.perf_counter(), time.process_time()
    t3bench.quality(t3bench.score_views(splats, "", lambda shown, prompt: shown.mean((1, 2, 3))))
    return {
        "splats": len(splats),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - worked,
    }


def random_weights(width: int = 1024, layers: int = 24, text: int = 768, words: int = 30524) -> dict:
    """As large as those that are published, by their names."""
    sizes: dict[str, tuple[int, ...]] = {}
    eye, reader = "blip.visual_encoder.", "blip.text_encoder."
    sizes[eye + "cls_token"], sizes[eye + "pos_embed"] = (1, 1, width), (1, 197, width)
    sizes[eye + "patch_embed.proj.weight"], sizes[eye + "patch_embed.proj.bias"] = (
        (width, 3, 16, 16),
        (width,),
    )

    def linear(name: str, outward: int, inward: int) -> None:
        sizes[name + ".weight"], sizes[name + ".bias"] = (outward, inward), (outward,)

    def norm(name: str, size: int) -> None:
        sizes[name + ".weight"] = sizes[name + ".bias"] = (size,)

    norm(eye + "norm", width)
    for layer in range(layers):
        block = f"{eye}blocks.{layer}."
        norm(block + "norm1", width), norm(block + "norm2", width)
        linear(block + "attn.qkv", 3 * width, width), linear(block + "attn.proj", width, width)
        linear(block + "mlp.fc1", 4 * width, width), linear(block + "mlp.fc2", width, 4 * width)
    sizes[reader + "embeddings.word_embeddings.weight"] = (words, text)
    sizes[reader + "embeddings.position_embeddings.weight"] = (512, text)
    norm(reader + "embeddings.LayerNorm", text)
    for layer in range(12):
        block = f"{reader}encoder.layer.{layer}."
        for kind, inward in (("attention", text), ("crossattention", width)):
            linear(f"{block}{kind}.self.query", text, text)
            linear(f"{block}{kind}.self.key", text, inward), linear(f"{block}{kind}.self.value", text, inward)
            linear(f"{block}{kind}.output.dense", text, text), norm(f"{block}{kind}.output.LayerNorm", text)
        linear(block + "intermediate.dense", 4 * text, text), linear(block + "output.dense", text, 4 * text)
        norm(block + "output.LayerNorm", text)
    for number, outward, inward in ((0, 1024, text), (2, 128, 1024), (4, 64, 128), (6, 16, 64), (7, 1, 16)):
        linear(f"mlp.layers.{number}", outward, inward)
    return {name: 0.02 * torch.randn(size) for name, size in sizes.items()}


def rewards(options: Options) -> dict:
    """ImageReward's network at full size; its weights are in the folder that `asset` names."""
    assert options.asset is not None
    reward, _ = load_image_reward(options.asset)
    shown = torch.rand(options.pictures, 3, t3bench.SIZE, t3bench.SIZE)
    begun, worked = time.perf_counter(), time.process_time()
    reward(shown, "a red cube")
    return {
        "pictures": options.pictures,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - worked,
    }


def anonymous() -> float | None:
    """GiB that are this process's alone and in no file; None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon")), None)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if options.only:
        row = (views if options.only == "views" else rewards)(options)
        row |= {"part": options.only, "peak_gib": machine.peak_memory() / 2**30, "anonymous_gib": anonymous()}
        row |= {"threads": options.threads, **made_by()}
        write_rows(options.output, [row])
        print(
            f"{options.only}: {row['seconds']:.1f} s, {row['cpu_seconds']:.1f} s of processor, "
            f"peak {row['peak_gib']:.2f} GiB, of it anonymous at the end {row['anonymous_gib'] or 0:.2f} GiB"
        )
        return
    from rfgs.measure.rows import read_rows

    def apart(part: str, asset: Path | None, output: Path) -> list[dict]:
        command = [sys.executable, __file__, "--only", part, "--output", str(output)]
        command += ["--splats", str(options.splats), "--pictures", str(options.pictures)]
        command += ["--threads", str(options.threads), *(["--asset", str(asset)] if asset else [])]
        subprocess.run(command, check=True)
        return read_rows(output)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = apart("views", options.asset, folder / "views.jsonl")
        if options.pictures:
            torch.save(random_weights(), folder / WEIGHTS)
            (folder / VOCABULARY).write_text(
                "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red"])
            )
            rows += apart("rewards", folder, folder / "rewards.jsonl")
    write_rows(options.output, rows)


if __name__ == "__main__":
    start(main, Options, __doc__)
