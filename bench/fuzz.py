"""Damaged files for every reader of rfgs: each has to be read, or refused in one line, in little time and memory.

    python bench/fuzz.py --count 20000                  # of each reader, some minutes
    python bench/fuzz.py --readers ply photo --seed 7   # other damage, of some
    python bench/fuzz.py --readers ply --only 1234      # one of them again, which is left in the folder --keep

A whole file is damaged in a few places: bytes flipped, cut out, doubled and put in, numbers replaced by odd ones, values of
JSON by values of other types. What ends in anything but a `UserError` of one line, takes longer than ten seconds, or more than
1 GiB of memory, is a fault. Of a checkpoint, in addition, no damage may go unnoticed. The tests do some of this.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import math
import random
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rfgs.errors import UserError

SECONDS, MEMORY = 10.0, 1 << 30

ODD_NUMBERS = (
    b"-1",
    b"0",
    b"-0",
    b"1e999",
    b"nan",
    b"4294967296",
    b"9223372036854775808",
    b"99999999999999999999",
    b"1.5",
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**31, 2**63, 10**400, 1e308, float("nan")),
    *("", "x" * 3000, "\ud800", "\0", "~nobody/x", [], [[]], {}, {"a": 1}),
)


@dataclass(frozen=True)
class Reader:
    """A reader and what it reads well."""

    name: str
    """Of the file."""
    wholes: Callable[[], list[bytes]]
    """Files that are whole."""
    read: Callable[[Path], Any]
    """Reads the file."""
    json: bool = False
    """Whether the files are lines of JSON."""
    pack: Callable[[bytes], bytes] | None = None
    """Makes the file of what `wholes` are, where that stands compressed or in the middle of it: most damage is done before."""
    all_noticed: bool = False
    """Whether a damaged file must not be read."""


def ply_files() -> list[bytes]:
    """Our own, in text, big-endian, discs with plain colors, and compressed."""
    import torch

    from rfgs.export import write_ply
    from rfgs.splats import ball

    splats, found = ball(6, 1.0, generator=torch.Generator().manual_seed(0)), []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.ply"
        for degree in (0, 1):
            write_ply(splats, path, sh_degree=degree, comments=["a caf\xe9"])
            found.append(path.read_bytes())
    names = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    text = "".join(f"property float {name}\n" for name in names)
    rows = "0.5 -1 0.25 0 0 0 1 -3 -3 -3 1 0 0 0\n" * 3
    found.append(f"ply\nformat ascii 1.0\nelement vertex 3\n{text}end_header\n{rows}".encode())
    discs = [name for name in names if name not in ("scale_2", "f_dc_0", "f_dc_1", "f_dc_2")]
    text = "".join(f"property double {name}\r\n" for name in discs)
    text += "".join(f"property uchar {name}\r\n" for name in ("red", "green", "blue"))
    row = struct.pack(">10d3B", 0.5, -1, 0, 1, -3, -3, 1, 0, 0, 0, 255, 0, 51)
    found.append(
        f"ply\r\nformat binary_big_endian 1.0\r\nelement vertex 2\r\n{text}end_header\r\n".encode() + 2 * row
    )
    return found


def packed_files() -> list[bytes]:
    """Compressed PLYs, with harmonics and without."""
    rng = random.Random(0)
    lines = ["ply", "format binary_little_endian 1.0", "element chunk 2"]
    for group in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b")):
        lines += [f"property float {end}_{name}" for end in ("min", "max") for name in group]
    lines += [
        "element vertex 300",
        *(f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")),
    ]
    chunks = b"".join(
        struct.pack("<18f", *[0.0] * 3, *[1.0] * 3, *[-5.0] * 3, *[-1.0] * 3, *[0.0] * 3, *[1.0] * 3)
        for _ in "ab"
    )
    content = chunks + rng.randbytes(300 * 16)
    harmonics = ["element sh 300", *(f"property uchar f_rest_{index}" for index in range(9))]
    return [
        "\n".join([*lines, "end_header\n"]).encode() + content,
        "\n".join([*lines, *harmonics, "end_header\n"]).encode() + content + rng.randbytes(2700),
    ]


def written(suffix: str) -> list[bytes]:
    """Splats as we write them, with harmonics and without."""
    import torch

    from rfgs.export import export
    from rfgs.splats import ball

    splats, found = ball(6, 1.0, generator=torch.Generator().manual_seed(0)), []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"a{suffix}"
        for degree in (0, 1):
            export(splats, path, sh_degree=degree)
            found.append(path.read_bytes())
    return found


def splat_files() -> list[bytes]:
    """Rows of 32 bytes."""
    return written(".splat")


def spz_files() -> list[bytes]:
    """What gzip packs."""
    return [gzip.decompress(content) for content in written(".spz")]


def sog_files() -> list[bytes]:
    """The meta.json of the one with harmonics."""
    with zipfile.ZipFile(io.BytesIO(written(".sog")[1])) as bundle:
        return [bundle.read("meta.json")]


@functools.cache
def _sog_pictures() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(written(".sog")[1])) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist() if name != "meta.json"}


def sog(meta: bytes) -> bytes:
    """A bundle with this meta.json."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        bundle.writestr(zipfile.ZipInfo("meta.json"), meta, compress_type=zipfile.ZIP_DEFLATED)
        for name, picture in _sog_pictures().items():
            bundle.writestr(zipfile.ZipInfo(name), picture)
    return stream.getvalue()


@functools.cache
def _glb_parts() -> tuple[bytes, bytes]:
    """The JSON of a .glb with harmonics, and what follows it."""
    content = written(".glb")[1]
    (length,) = struct.unpack_from("<I", content, 12)
    return content[20 : 20 + length], content[20 + length :]


def glb_files() -> list[bytes]:
    """The JSON in it."""
    return [_glb_parts()[0]]


def glb(text: bytes) -> bytes:
    """A binary glTF with this JSON."""
    rest = _glb_parts()[1]
    text += b" " * (-len(text) % 4)
    size = 20 + len(text) + len(rest)
    return struct.pack("<4sIII4s", b"glTF", 2, size, len(text), b"JSON") + text + rest


def mesh_files() -> list[bytes]:
    """Meshes in text, with colors and without."""
    corners = ["v 0 0 0", "v 1 0 0 1 0 0", "v 0 1 0", "v 0 0 1 0.5 0.5 0.5"]
    faces = ["f 1 2 3", "f 1 2 4", "f 1/1/1 3/1/1 4/1/1", "f 2 3 4"]
    return ["\n".join([*lines, ""]).encode() for lines in (corners + faces, corners)]


def cloud_files() -> list[bytes]:
    """Points and triangles as a PLY that holds no splats."""
    head = "ply\nformat {} 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    head += "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    corners = [(0, 0, 0, 255, 0, 0), (1, 0, 0, 0, 255, 0), (0, 1, 0, 0, 0, 255), (0, 0, 1, 9, 9, 9)]
    text = "".join(f"{' '.join(map(str, corner))}\n" for corner in corners)
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    rows = b"".join(struct.pack("<3f3B", *corner) for corner in corners)
    return [
        (head.format("ascii") + "end_header\n" + text).encode(),
        (head.format("binary_little_endian") + faces + "end_header\n").encode()
        + rows
        + struct.pack("<B3i", 3, 0, 1, 2),
    ]


def weight_files() -> list[bytes]:
    """The header of a transformer of SD3 in one file."""
    shapes = {
        "model.diffusion_model.x_embedder.proj.weight": [8, 16, 2, 2],
        "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": [24, 8],
        "first_stage_model.decoder.conv_in.weight": [4, 16, 3, 3],
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at := at + 2 * math.prod(shape)]}
    return [json.dumps(header).encode()]


def weights(header: bytes) -> bytes:
    """A file of safetensors with this header."""
    return struct.pack("<Q", len(header)) + header + bytes(3000)


def read_weights(path: Path) -> object:
    """As `--model FILE` is looked at."""
    from rfgs.models.single_file import read

    return read(str(path))


def prompt_files() -> list[bytes]:
    """Tables of prompts."""
    return [b'prompt,seed,guidance-scale\n"a red cube, on a blue ball",1,4\na mug,,\n\na caf\xc3\xa9,3,2.5\n']


def read_prompts(path: Path) -> object:
    """As `rfgs batch` does."""
    from rfgs.runs.batch.lines import read_file

    return read_file(path)


def photo_files() -> list[bytes]:
    """What cameras, phones and programs write."""
    from PIL import Image, ImageCms, PngImagePlugin

    rng, found = random.Random(0), []
    picture = Image.frombytes("RGB", (40, 24), rng.randbytes(40 * 24 * 3)).resize((48, 32))
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    words = PngImagePlugin.PngInfo()
    words.add_text("parameters", "a red cube " * 50, zip=True)
    for kind, image, options in (
        ("PNG", picture, {"exif": exif, "icc_profile": profile, "pnginfo": words}),
        ("PNG", picture.convert("P"), {"transparency": 3}),
        ("PNG", Image.frombytes("I;16", (48, 32), rng.randbytes(48 * 32 * 2)), {}),
        ("JPEG", picture, {"exif": exif, "icc_profile": profile}),
        ("JPEG", picture.convert("CMYK"), {"progressive": True}),
        ("WEBP", picture, {"exif": exif}),
        ("GIF", picture.convert("P"), {"save_all": True, "append_images": [picture.convert("P").rotate(90)]}),
        ("TIFF", picture.convert("LA"), {"compression": "tiff_lzw"}),
        ("BMP", picture, {}),
        ("TGA", picture.convert("RGBA"), {"rle": True}),
        ("PPM", picture, {}),
    ):  # fmt: skip
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found.append(stream.getvalue())
    return found


def record_files() -> list[bytes]:
    """What `rfgs generate` notes of a run."""
    from rfgs.runs.job import Job

    job = asdict(Job("a red cube", settings={"steps": 20, "noise_range": [0.1, 0.9]}, seed=3))
    record = {
        "state": "stopped",
        "job": job,
        "config": {"steps": 20},
        "steps_done": 7,
        "versions": {"rfgs": "0.1.0"},
    }
    older = {**record, "job": {"prompt": "a mug", "model": "tiny-sd3", "steps": 5}}
    return [json.dumps(one, indent=2).encode() for one in (record, older)]


def read_record(path: Path) -> None:
    """As `rfgs generate --resume` does before it loads the model."""
    from rfgs.distill.settings import DistillConfig
    from rfgs.guidance import check_values
    from rfgs.runs.folders import job_to_resume
    from rfgs.runs.holding import release

    try:
        job = job_to_resume(path.parent)
        job.preset()
        check_values(job.settings, DistillConfig, job.guidance)
    finally:
        release(path.parent)


def checkpoint_files() -> list[bytes]:
    """What a run goes on from."""
    import torch

    from rfgs.runs.checkpoints import save_checkpoint
    from rfgs.runs.folders import CHECKPOINT

    state = {
        "index": 3,
        "splats": {"means": torch.zeros(5, 3)},
        "optimizer": {},
        "generator": torch.Generator().get_state()[:64],
    }
    with tempfile.TemporaryDirectory() as place:
        save_checkpoint(Path(place), {"config": {"steps": 9}, "state": state, "record": {"steps_done": 3}})
        return [(Path(place) / CHECKPOINT).read_bytes()]


def read_checkpoint(path: Path) -> object:
    """As `rfgs generate --resume` does."""
    from rfgs.runs.checkpoints import load_checkpoint

    return load_checkpoint(path.parent)


def table_files() -> list[bytes]:
    """What `rfgs bench` writes."""
    from rfgs.measure.plan import COLUMNS, Column, plan
    from rfgs.measure.rows import made_by, write_rows
    from rfgs.runs.job import QUALITIES

    runs = plan(
        [COLUMNS[0], Column("world", "rfds-rev", label="truth")],
        {"single": ["a red mug", "a blue car"]},
        2,
        QUALITIES["draft"],
    )
    rows = [
        {
            "run": asdict(run), "score": {"score": 50.0 + index, "exact": 3.0}, "truth": {"iou": 0.5, "psnr": 20.0},
            "scorer": "abc", "seconds": {"total": 9.0}, "evaluations": {"forward": 8}, "splats": 70, **made_by(),
        }
        for index, run in enumerate(runs)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        write_rows(Path(place) / "a.jsonl", rows)
        return [(Path(place) / "a.jsonl").read_bytes()]


def read_table(path: Path) -> None:
    """As `rfgs bench --report` does, but for 10,000 drawings of each figure."""
    from rfgs.measure import table
    from rfgs.measure.records import check_figures, read_records

    records = read_records(path.parent)
    check_figures(path.parent, records)
    with_few = table.RESAMPLES
    table.RESAMPLES = 10
    try:
        for key in ("score", "psnr"):
            table.table_text(table.table(records, key))
        table.costs_text(records)
        table.warnings(records)
    finally:
        table.RESAMPLES = with_few


def index_files() -> list[bytes]:
    """A model_index.json."""
    parts = {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    return [json.dumps({"_class_name": "StableDiffusion3Pipeline", **parts}, indent=2).encode()]


def config_files() -> list[bytes]:
    """Configurations of parts, and what a small model says of itself."""
    vae = {"_class_name": "AutoencoderKL", "block_out_channels": [32, 64, 64], "scaling_factor": 1.5}
    network = {"_class_name": "SD3Transformer2DModel", "patch_size": 2, "pos_embed_max_size": 96}
    own = {"family": "tiny-sd3", "vocabulary": ["red", "mug"], "image_size": 64, "max_sequence_length": 32}
    pieces = {
        "metadata": {"total_size": 9},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    return [json.dumps(one, indent=2).encode() for one in (vae, network, own, pieces)]


def read_model(path: Path) -> None:
    """What is read of a model before it is loaded; the file stands in for each of its files of JSON."""
    from rfgs.models.about import about
    from rfgs.models.kind import kind_of
    from rfgs.models.layout import missing
    from rfgs.models.sizes import check_resolution

    damaged, whole = path.parent / "damaged", path.parent / "whole"
    if not whole.exists():  # Linked once, since writing ten files a time is what would take the time.
        for folder in (damaged, whole):
            for part in ("transformer", "vae", "text_encoder"):
                (folder / part).mkdir(parents=True)
                (folder / part / "config.json").symlink_to(path)
                (folder / part / "model.safetensors.index.json").symlink_to(path)
            (folder / "rfgs.json").symlink_to(path)
        (damaged / "model_index.json").symlink_to(path)
        (whole / "model_index.json").write_bytes(index_files()[0])
    for folder in (damaged, whole):
        about(folder)
        kind_of(str(folder))
        missing(folder)
        check_resolution(str(folder), 512)


def splats(path: Path) -> object:
    """A file of splats."""
    from rfgs.export import read

    return read(path)


def start(path: Path) -> object:
    """A mesh or points, as `--start` takes them."""
    from rfgs.runs.start import read_start

    return read_start(path, 100)


def photo(path: Path) -> object:
    """A picture."""
    from rfgs.flat.photos import read_photo

    return read_photo(path)


READERS = {
    "ply": Reader("a.ply", ply_files, splats),
    "packed": Reader("a.compressed.ply", packed_files, splats),
    "splat": Reader("a.splat", splat_files, splats),
    "spz": Reader("a.spz", spz_files, splats, pack=gzip.compress),
    "sog": Reader("a.sog", sog_files, splats, json=True, pack=sog),
    "glb": Reader("a.glb", glb_files, splats, json=True, pack=glb),
    "mesh": Reader("a.obj", mesh_files, start),
    "cloud": Reader("a.ply", cloud_files, start),
    "photo": Reader("a.png", photo_files, photo),
    "record": Reader("run.json", record_files, read_record, json=True),
    "checkpoint": Reader("checkpoint.pt", checkpoint_files, read_checkpoint, all_noticed=True),
    "table": Reader("results.jsonl", table_files, read_table, json=True),
    "index": Reader("model.json", index_files, read_model, json=True),
    "config": Reader("model.json", config_files, read_model, json=True),
    "weights": Reader("a.safetensors", weight_files, read_weights, json=True, pack=weights),
    "prompts": Reader("a.csv", prompt_files, read_prompts),
}


def damaged(reader: Reader, wholes: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the whole files, damaged in one to four places."""
    content = rng.choice(wholes)
    packed = reader.pack is not None and rng.random() < 0.3
    if packed:
        wholes = [_packed(reader, whole) for whole in wholes]
        content = _packed(reader, content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if reader.json and not packed and rng.random() < 0.6:
            content = _other_value(content, rng)
        else:
            content = _other_bytes(content, wholes, rng)
    return content if packed else _packed(reader, content)


def _packed(reader: Reader, content: bytes) -> bytes:
    return content if reader.pack is None else reader.pack(content)


def _other_bytes(content: bytes, wholes: Sequence[bytes], rng: random.Random) -> bytes:
    # Half of the damage in the first bytes, where headers are.
    end = len(content) if rng.random() < 0.5 else min(len(content), 600)
    at = rng.randrange(end + 1)
    length = min(rng.choice((1, 1, 2, 4, 16, 200)), len(content) - at)
    before, part, after = content[:at], content[at : at + length], content[at + length :]
    way = rng.randrange(8)
    if way == 0:
        return before + rng.randbytes(length) + after
    if way == 1:
        return before + bytes(rng.choice((0, 1, 127, 128, 255)) for _ in part) + after
    if way == 2:
        return before + after
    if way == 3:
        return before + part * rng.choice((2, 3, 50)) + after
    if way == 4:
        return before
    if way == 5:
        other = rng.choice(wholes)
        start = rng.randrange(len(other))
        return before + other[start : start + length] + after
    if way == 6:
        numbers = list(re.finditer(rb"\d+", content[:2000]))
        if numbers:
            found = rng.choice(numbers)
            return content[: found.start()] + rng.choice(ODD_NUMBERS) + content[found.end() :]
    return before + bytes(byte ^ 1 << rng.randrange(8) for byte in part) + after


def _other_value(content: bytes, rng: random.Random) -> bytes:
    """With a value of another kind in one place, a name that is gone, or lists in lists without an end."""
    lines = content.split(b"\n") if content.startswith(b'{"') else [content]
    number = rng.randrange(len(lines))
    try:
        document = json.loads(lines[number])
    except (ValueError, RecursionError):
        return content
    places = list(_places(document))
    if not places:
        return content
    holder, key = rng.choice(places)
    way = rng.randrange(12)
    if way == 0:
        del holder[key]
    else:
        holder[key] = rng.choice(ODD_VALUES)
    text = json.dumps(document)
    if way == 1:
        text = text.replace("null", "[" * 3000 + "]" * 3000) if "null" in text else "[" * 100_000
    lines[number] = text.encode()
    return b"\n".join(lines)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in (
        list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        yield value, key
        yield from _places(value[key])


@dataclass
class Outcome:
    """What became of damaged files."""

    read: int
    refused: Counter[str]
    """By the message, without what differs from file to file."""
    faults: list[str]
    slowest: float
    memory: int
    """The most that this process has had, bytes."""


def tried(
    reader: Reader, folder: Path, count: int, seed: int, *, only: int | None = None, in_time: bool = True
) -> Outcome:
    """Has `reader` read `count` damaged files, one after the other in `folder`.

    Args:
        only: of these only the one of this number.
        in_time: end what takes longer than `SECONDS`, by a signal.
    """
    wholes, outcome = reader.wholes(), Outcome(0, Counter(), [], 0.0, 0)
    # Of a process that has held more before, as the tests' has, its own peak.
    limit = max(MEMORY, _memory())
    path = folder / reader.name
    for number in range(count) if only is None else [only]:
        content = damaged(reader, wholes, random.Random(f"{seed} {number}"))
        path.write_bytes(content)
        begun = time.perf_counter()
        try:
            with warnings.catch_warnings(), _at_most(SECONDS if in_time else 0):
                warnings.simplefilter("ignore")
                found = reader.read(path)
            outcome.read += 1
            if reader.all_noticed and found is not None and content not in wholes:
                outcome.faults.append(f"{number}: damage was not noticed")
        except UserError as error:
            if "\n" in str(error):
                outcome.faults.append(f"{number}: a message of several lines: {error}")
            outcome.refused[
                re.sub(r"\(.*\)|'.*'|\d+", "_", str(error).replace(str(path), "").replace(str(folder), ""))[
                    :70
                ]
            ] += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome.faults.append(
                f"{number}: {type(error).__name__} ({where.filename}:{where.lineno}): {str(error)[:200]}"
            )
        seconds, memory = time.perf_counter() - begun, _memory()
        if memory > limit >= outcome.memory:
            outcome.faults.append(f"{number}: {memory / 2**30:.2f} GiB of memory")
        outcome.slowest, outcome.memory = max(outcome.slowest, seconds), max(outcome.memory, memory)
    return outcome


def _memory() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    if not seconds:
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(
    count: int = 1000,
    readers: tuple[str, ...] = tuple(READERS),
    seed: int = 0,
    only: int | None = None,
    keep: Path | None = None,
) -> None:
    """Try, and print what became of the files; exit code 1 if there is a fault.

    Args:
        count: of damaged files for each reader.
        readers: which of them; all without it.
        seed: of the damage.
        only: only the file of this number.
        keep: a folder for the last file of each reader.
    """
    bad = 0
    for name in readers:
        with tempfile.TemporaryDirectory() as place:
            outcome = tried(READERS[name], Path(place), count, seed, only=only)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / READERS[name].name).write_bytes((Path(place) / READERS[name].name).read_bytes())
        print(
            f"{name:10} {outcome.read:6} read, {sum(outcome.refused.values()):6} refused, {len(outcome.faults):4} faults; "
            f"slowest {outcome.slowest:.2f} s, memory {outcome.memory / 2**20:.0f} MiB",
            flush=True,
        )
        for message, times in outcome.refused.most_common(5):
            print(f"           {times:6} {message}")
        for fault in outcome.faults[:20]:
            print(f"           FAULT {fault}")
        bad += len(outcome.faults)
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
