"""Our files in other people's programs: what independent readers draw of them, against our own render of the same camera.

    python bench/readers.py                       # 2,000 random splats with harmonics of degree 2, 512 px
    python bench/readers.py runs/x                # a run's asset

Needs Chromium, npm and a network the first time: the readers are installed into a folder of their own, `--modules`. Each draws
each format that it knows in a headless Chromium without a GPU, turned as its own documentation has its users turn such files,
so that one that is upside down, turned away or mirrored has 20 dB and less. The figures are PSNR over the pixels where either
picture shows something. Files are also read by the glTF validator, by splat-transform, whose PLY of each is read back and of
which the splat farthest from any of ours is told, and meshes by trimesh.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
import torch
import trimesh
import tyro
from PIL import Image
from program import RESULTS, start
from torch_tiles import rasterization

from rfgs.errors import UserError
from rfgs.export import read
from rfgs.export.axes import WORLD_TO_Y_UP
from rfgs.export.formats import FORMATS, source_of
from rfgs.measure.rows import change_rows, made_by
from rfgs.render import render
from rfgs.render.cameras import DEFAULT_DISTANCE, DEFAULT_FOV, Cameras, orbit
from rfgs.render.sh import colors_from_sh
from rfgs.splats import Splats, ball
from tests.viewer.chromium import EXECUTABLE, Chromium

READERS = {
    "spark": ("@sparkjsdev/spark", (".ply", ".compressed.ply", ".spz", ".sog", ".splat")),
    "three": ("three", (".ply", ".spz", ".splat", ".glb", ".mesh.glb")),
    "babylon": (
        "@babylonjs/core",
        (".ply", ".compressed.ply", ".spz", ".sog", ".splat", ".glb", ".mesh.glb"),
    ),
    "mkkellogg": ("@mkkellogg/gaussian-splats-3d", (".ply", ".compressed.ply", ".spz", ".splat")),
    "playcanvas": ("playcanvas", (".ply", ".compressed.ply", ".sog")),
    "playcanvasLarge": ("playcanvas", (".ply", ".compressed.ply", ".sog")),
    "supersplat": ("@playcanvas/supersplat-viewer", (".ply", ".compressed.ply", ".sog")),
}
"""By function in readers.js: the package, and the formats that it reads."""
PACKAGES = [
    *(package for package, _ in READERS.values()),
    "@babylonjs/loaders",
    "@playcanvas/splat-transform",
    "gltf-validator",
]
IMPORTS = {
    "three": "/node_modules/three/build/three.module.js",
    "three/webgpu": "/node_modules/three/build/three.webgpu.js",
    "three/tsl": "/node_modules/three/build/three.tsl.js",
    "three/addons/": "/node_modules/three/examples/jsm/",
    "@sparkjsdev/spark": "/node_modules/@sparkjsdev/spark/dist/spark.module.js",
    "@mkkellogg/gaussian-splats-3d": "/node_modules/@mkkellogg/gaussian-splats-3d/build/gaussian-splats-3d.module.js",
    "playcanvas": "/node_modules/playcanvas/build/playcanvas.mjs",
    "playcanvas/scripts/": "/node_modules/playcanvas/scripts/",
    "@playcanvas/supersplat-viewer/viewer": "/node_modules/@playcanvas/supersplat-viewer/dist/viewer.js",
    "@playcanvas/supersplat-viewer/settings": "/node_modules/@playcanvas/supersplat-viewer/dist/settings.js",
    "fflate": "/node_modules/fflate/esm/browser.js",
    "@babylonjs/core/": "/node_modules/@babylonjs/core/",
    "@babylonjs/loaders/": "/node_modules/@babylonjs/loaders/",
}


def faded(sigma: torch.Tensor, shrunk: torch.Tensor) -> torch.Tensor:
    return ((torch.exp(-sigma) - math.exp(-4)) / (1 - math.exp(-4))).clamp(min=0)


FALLOFFS = {
    "three": lambda sigma, shrunk: torch.where(sigma <= 2, shrunk * torch.exp(-sigma), 0.0),
    "playcanvas": faded,
    "playcanvasLarge": faded,
    "supersplat": faded,
}
"""Readers that draw no Gaussians, by design, and what they draw: three ends at two standard deviations and makes small ones
fainter, PlayCanvas, which SuperSplat's is made with, takes off what would be left at 2.8."""
ROUNDED = ("playcanvas", "supersplat")
"""Readers that keep scales in steps of 8.6 % and opacities in 255ths, whatever a file has: PlayCanvas' work buffer, where nobody
asks for GSPLATDATA_LARGE."""
PAGE = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0; background: black; overflow: hidden }}
canvas {{ display: block; position: fixed; inset: 0 }}</style>
<script type="importmap">{imports}</script><body><script type="module" src="/readers.js"></script>"""
SIZE, AZIMUTH, ELEVATION = 512, 25.0, 18.0
"""Pixels and degrees: from half the right and half above, so that nothing that is turned or mirrored looks the same."""
COUNT = 2000
"""Splats."""
PATIENCE = 60.0
"""Seconds for a reader to draw a file."""


@dataclass
class Options:
    source: Annotated[str, tyro.conf.Positional] = ""
    """A file of splats or a run's folder; without it, random splats with harmonics."""
    modules: Path = Path(tempfile.gettempdir()) / "rfgs-readers"
    """Where the readers are installed, if they are not yet."""
    only: Literal[
        "", "spark", "three", "babylon", "mkkellogg", "playcanvas", "playcanvasLarge", "supersplat"
    ] = ""
    """One reader, and nothing else."""
    formats: tuple[str, ...] = ()
    """Only these, such as .spz; without it, all."""
    output: Path = RESULTS / "readers.jsonl"
    """The table."""
    pictures: Path | None = None
    """Folder for what was drawn."""

    def wants(self, suffix: str) -> bool:
        """Whether this format is to be read by anybody."""
        by_one = not self.only or suffix in READERS[self.only][1]
        return by_one and (not self.formats or suffix in self.formats)


def splats_of(source: str) -> Splats:
    if source:
        return read(source_of(source))
    generator = torch.Generator().manual_seed(0)
    splats = ball(COUNT, 0.7, generator=generator, opacity=0.8, scale=0.03, color_spread=0.25)
    splats.log_scales = splats.log_scales + 0.4 * torch.randn(COUNT, 3, generator=generator)
    splats.quats = torch.randn(COUNT, 4, generator=generator)
    splats.means = splats.means * torch.tensor([1.0, 0.8, 0.6]) + torch.tensor([0.1, 0.15, 0.2])
    splats.shN = 0.05 * torch.randn(COUNT, 8, 3, generator=generator)
    return splats


@contextmanager
def served(modules: Path, files: Path) -> Iterator[str]:
    """A web server of the page, the packages and the files; its address."""
    here = Path(__file__).parent

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            name = path.partition("?")[0].lstrip("/")
            root = modules if name.startswith("node_modules/") else here if name == "readers.js" else files
            return str(root / name)

        def log_message(self, *args: Any) -> None:
            pass

    Handler.extensions_map = {
        **Handler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }
    (files / "page.html").write_text(PAGE.format(imports=json.dumps({"imports": IMPORTS})))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def installed(modules: Path) -> dict[str, str]:
    """The version of each package, after installing those that are not there."""
    if shutil.which("npm") is None or EXECUTABLE is None:
        raise UserError("this needs npm and Chromium; install them (Debian: apt-get install npm chromium)")
    modules.mkdir(parents=True, exist_ok=True)
    paths = {package: modules / "node_modules" / package / "package.json" for package in PACKAGES}
    if not all(path.exists() for path in paths.values()):
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=modules, check=True)
    return {package: json.loads(path.read_text())["version"] for package, path in paths.items()}


def expected(splats: Splats, camera: Cameras, reader: str = "") -> np.ndarray:
    """Our render on black, [H, W, 3] in 0 to 1; for a reader, of what it draws in the place of Gaussians."""
    black = torch.zeros(3)
    with torch.no_grad():
        if reader not in FALLOFFS:
            image = render(splats, camera, black).rgb[0].permute(1, 2, 0)
        else:
            seen = torch.ones(1, len(splats), 2)
            harmonics = splats.sh0 if splats.shN is None else torch.cat((splats.sh0, splats.shN), 1)
            colors = colors_from_sh(splats.sh_degree, harmonics, splats.means, camera.viewmats, seen)
            scales, opacities = rounded(splats) if reader in ROUNDED else (splats.scales, splats.opacities)
            image = rasterization(
                splats.means, splats.quats, scales, opacities, colors.reshape(-1, 3).clamp(max=1),
                camera.viewmats, camera.Ks, camera.width, camera.height, falloff=FALLOFFS[reader],
            )[0][0]  # fmt: skip
    return image.clamp(0, 1).numpy().astype(float)


def rounded(splats: Splats) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and opacities as those in `ROUNDED` keep them."""
    step = 21 / 255
    steps = ((splats.log_scales + 12) / step).round().clamp(1, 255)
    return torch.exp(steps * step - 12), (splats.opacities * 255).round() / 255


def psnr(seen: np.ndarray, expected: np.ndarray) -> float:
    """dB, of pictures [H, W, 3] in 0 to 1, over the pixels where either shows something."""
    shown = (seen.max(axis=-1) > 2 / 255) | (expected.max(axis=-1) > 2 / 255)
    return -10 * math.log10(max(float(np.square(seen - expected)[shown].mean()), 1e-12))


def draw(browser: Chromium, address: str, reader: str, suffix: str, eye: list[float]) -> np.ndarray:
    """What a reader makes of a file, [H, W, 3] in 0 to 1."""
    asked = {
        "reader": reader,
        "url": f"/asset{suffix}",
        "suffix": suffix,
        "from": json.dumps(eye),
        "fov": DEFAULT_FOV,
    }
    browser.open(f"{address}/page.html?{urlencode(asked)}")
    told = browser.wait_for("window.told", timeout=PATIENCE)
    if told != "drawn":
        raise RuntimeError(told)
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB")).astype(float) / 255


def by_pictures(
    options: Options, splats: Splats, files: Path, versions: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """A row for each reader and format: its PSNR, and where it draws no Gaussians by design, that against the same."""
    camera = orbit(AZIMUTH, ELEVATION, DEFAULT_DISTANCE, DEFAULT_FOV, SIZE, SIZE)
    eye = (WORLD_TO_Y_UP @ camera.positions[0].float()).tolist()
    pictures = options.pictures
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        save(expected(splats, camera), pictures / "ours.png")
    with served(options.modules, files) as address:
        for reader, (package, suffixes) in READERS.items():
            for suffix in filter(options.wants, suffixes if options.only in ("", reader) else ()):
                name = f"{package}, GSPLATDATA_LARGE" if reader == "playcanvasLarge" else package
                row: dict[str, Any] = {"reader": name, "version": versions[package], "format": suffix}
                there = splats.with_sh_degree(0) if suffix == ".splat" else splats  # It has no harmonics.
                try:
                    with Chromium(SIZE, SIZE) as browser:
                        seen = draw(browser, address, reader, suffix, eye)
                except (RuntimeError, TimeoutError) as problem:
                    yield row | {"problem": str(problem)[:200]}
                    continue
                row["psnr"] = round(psnr(seen, expected(there, camera)), 1)
                if reader in FALLOFFS and suffix != ".mesh.glb":
                    row["psnr_as_it_draws"] = round(psnr(seen, expected(there, camera, reader)), 1)
                if pictures:
                    save(seen, pictures / f"{reader}{suffix}.png")
                yield row


def by_numbers(
    options: Options, splats: Splats, files: Path, versions: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """A row for each file that a program without pictures reads."""
    modules = options.modules / "node_modules"
    package = "@playcanvas/splat-transform"
    means = splats.means[splats.means[:, 0].argsort()]
    for suffix in filter(options.wants, (".ply", ".compressed.ply", ".spz", ".sog", ".splat")):
        row: dict[str, Any] = {"reader": package, "version": versions[package], "format": suffix}
        again = files / f"again{suffix}.ply"
        command = ["node", modules / package / "bin" / "cli.mjs", "-w", files / f"asset{suffix}", again]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            yield row | {"problem": (done.stderr.strip() or done.stdout.strip())[-200:]}
            continue
        back = read(again)
        apart = torch.cdist(back.means.double(), means.double()).min(dim=1).values.max()
        yield row | {"splats": len(back), "farthest": round(float(apart), 5)}
    package = "gltf-validator"
    validate = (
        "const fs = require('fs'); require(process.argv[1]).validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])))"
        ".then((told) => console.log(JSON.stringify(told.issues.messages)))"
    )
    for name in filter(lambda name: (files / name).exists(), ("asset.glb", "asset.mesh.glb")):
        told = subprocess.run(
            ["node", "-e", validate, modules / package, files / name],
            capture_output=True,
            text=True,
            check=True,
        )
        # It does not know the extension, and takes the names that this has attributes have for wrong.
        issues = [one for one in json.loads(told.stdout) if "KHR_gaussian_splatting" not in json.dumps(one)]
        row = {"reader": package, "version": versions[package], "format": name.partition(".")[2]}
        worst = [sum(one["severity"] == severity for one in issues) for severity in (0, 1)]
        yield row | {"errors": worst[0], "warnings": worst[1]}
    for suffix in filter(options.wants, (".obj", ".mesh.glb", ".mesh.ply")):
        mesh = trimesh.load(files / f"asset{suffix}", force="mesh", process=suffix == ".obj")
        row = {"reader": "trimesh", "version": trimesh.__version__, "format": suffix}
        row |= {"watertight": bool(mesh.is_watertight), "faces": len(mesh.faces)}
        if mesh.visual.kind == "vertex":  # Where there is a material, trimesh leaves colors out.
            row["colors"] = len(np.unique(mesh.visual.vertex_colors, axis=0))
        yield row


def save(picture: np.ndarray, path: Path) -> None:
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(path)


def run(options: Options) -> None:
    versions = installed(options.modules)
    splats = splats_of(options.source)
    made, rows = made_by(), []
    with tempfile.TemporaryDirectory() as there:
        files = Path(there)
        for known in FORMATS:
            if options.wants(known.suffix) and (known.reader or "mesh" in known.summary):
                known.write(splats, files / f"asset{known.suffix}")
        for kind in (by_pictures,) if options.only else (by_numbers, by_pictures):
            for row in kind(options, splats, files, versions):
                told = ", ".join(f"{name} {value}" for name, value in list(row.items())[3:])
                print(f"{row['reader']:32} {row['version']:14} {row['format']:16} {told}", flush=True)
                rows.append({**made, "source": Path(options.source).name or "random", **row})
    # What is not measured now stays as it was.
    now = {key_of(row) for row in rows}
    change_rows(options.output, lambda before: [row for row in before if key_of(row) not in now] + rows)


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["source"], row["reader"], row["format"]


if __name__ == "__main__":
    start(run, Options, __doc__)
