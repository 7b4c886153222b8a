"""All that a run with a small model imports, imported: what `rfgs.runs.forks` forks from. Nothing is computed here.

A module that is missing costs each run its import, and nothing else; tests/runs/test_forks.py finds it. Not OpenVINO, whose
import starts a thread.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module

import torch
from PIL import Image

MODULES = (
    "rfgs.assets", "rfgs.runs.batch.worker", "rfgs.cli.load_checks", "rfgs.cli.main", "rfgs.export.ply", "rfgs.guidance.flowedit",
    "rfgs.guidance.ode", "rfgs.models.sizes", "rfgs.priors.autoencoder",
    "rfgs.priors.converted", "rfgs.priors.instaflow", "rfgs.priors.sd3", "rfgs.priors.unread", "rfgs.render.cpu",
    "rfgs.runs.generate", "rfgs.viewer", "rfgs.viewer.painting", "rfgs.viewer.steer_panel",
    "filelock", "imageio.plugins.pillow", "imageio.v3", "imageio_ffmpeg.binaries", "numba.np.arraymath", "packaging.version",
    "rich.console", "safetensors.torch", "tokenizers", "tqdm", "typeguard", "viser",
)  # fmt: skip

for name in MODULES:
    with suppress(ImportError):  # A library that is not installed here; a run that needs it will say so.
        import_module(name)

Image.init()  # All of its formats, which it looks for when it first writes one.
if torch.version.cuda is None:
    from rfgs.render import warmup

    warmup()  # Machine code, which is loaded and not called.

# What is here stays, and forks need not look through it for garbage: of the 7 s of processor time of one that makes three
# steps that saved 1.1 and 0.1 s (two pairs, on a busy machine).
gc.freeze()
