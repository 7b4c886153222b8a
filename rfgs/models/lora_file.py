"""A file with a LoRA: whether it is one, and of which family of models, by the names in its header. No torch here."""

from __future__ import annotations

import math
from pathlib import Path

from rfgs.errors import UserError
from rfgs.models.families import FLUX, INSTAFLOW, SD, SD3, Family
from rfgs.models.weight_files import damage, header

_WORDS = ("lora_", ".lora.", ".lora1.", ".lora2.", "_lora1.", "_lora2.")
"""One of these is in the names of all that trainers write."""
_MARKS = (
    ("a UNet", ("down_blocks", "up_blocks", "mid_block", "input_blocks", "output_blocks", "middle_block")),
    ("FLUX", ("single_transformer_blocks", "double_blocks", "single_blocks")),
    ("SD3", ("joint_blocks",)),
)
"""What a LoRA is for, by parts of its tensors' names; some names do not tell SD3 from FLUX."""
_MADE_FOR = {SD3: "SD3", FLUX: "FLUX", SD: "a UNet", INSTAFLOW: "a UNet"}


def check_lora(file: str, scale: float, family: Family | None, source: str) -> None:
    """That a file holds a LoRA, and none of another family than the model `source`.

    Raises:
        UserError: it does not, cannot be read, or is for other models; a scale that is no number.
    """
    name, path = f"--lora {file}", Path(file).expanduser()
    if not math.isfinite(scale):
        raise UserError(f"--lora-scale {scale:g}: has to be a number; try --lora-scale 1")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{name}: {what}; give a file of a LoRA (.safetensors)")
    if path.suffix.lower() != ".safetensors":
        raise UserError(f"{name}: does not end in .safetensors; take the same LoRA as such")
    try:
        problem, tensors = damage(path), header(path)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    if problem or not tensors:
        raise UserError(f"{name}: {problem or 'holds no tensors'}; download or copy it again")
    if not any(word in tensor for tensor in tensors for word in _WORDS):
        raise UserError(
            f"{name}: is not a LoRA (its first tensor is {next(iter(tensors))}); weights of a whole model are given with --model"
        )
    extra = next((tensor for tensor in tensors if "dora_scale" in tensor or "magnitude" in tensor), None)
    if extra:
        raise UserError(f"{name}: is a DoRA ({extra}), which cannot be added; give a plain LoRA")
    made_for = next(
        (kind for kind, marks in _MARKS if any(mark in tensor for tensor in tensors for mark in marks)), None
    )
    wanted = _MADE_FOR.get(family) if family else None
    if family and wanted is None:
        raise UserError(f"{name}: {source} has no network that it could be added to; leave it out")
    if made_for and wanted and made_for != wanted:
        raise UserError(f"{name}: is for {made_for}, and {source} is {wanted}; give one that was made for it")
