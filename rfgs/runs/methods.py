"""Which guidance goes with which model and which settings, told before a model is loaded.

No torch here but where a guidance is looked at, which is not the case for the usual one (`usual_guidance`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rfgs.distill.settings import DistillConfig
from rfgs.errors import UserError
from rfgs.models import single_file, weighing
from rfgs.models.kind import family_of, kind_of
from rfgs.models.loading import Loading
from rfgs.models.memory import NF4, Load
from rfgs.settings import declared


def check_pair(guidance: str, source: str) -> None:
    """That the model `source` (as `rfgs.models.available.find_model` takes it) is of the kind that the guidance is defined for.

    A model whose kind cannot be told without the network is let through; `rfgs.priors.load_prior` will tell.

    Raises:
        UserError: it is not, or there is no such guidance.
    """
    from rfgs.guidance import find_guide, guides

    guide, others, family = find_guide(guidance), guides(), family_of(source)
    if guide.trains and family and not family.network:
        fitting = [name for name, other in others.items() if other.kind == guide.kind and not other.trains]
        raise UserError(
            f"--guidance {guidance}: trains a LoRA on the model's network, and {source} has none; "
            f"use --guidance {' or '.join(fitting)}"
        )
    if family is None or family.kind == guide.kind:
        return
    fitting = [name for name, other in others.items() if other.kind == family.kind]
    what = {"flow": "rectified flows", "diffusion": "diffusion models"}
    models = {"flow": "tiny-sd3 or sd3", "diffusion": "tiny-sd or sd15"}[guide.kind]
    raise UserError(
        f"--guidance {guidance}: is defined for {what[guide.kind]}, and {source} is none; "
        f"use --guidance {' or '.join(fitting)}, or another model such as --backend {models}"
    )


def usual_guidance(source: str, small: bool, given: Collection[str] = ()) -> str:
    """What suits a model where no guidance is asked for.

    Args:
        small: one of our own small models, under which assets of RFDS are nearer to the truth than RFDS-Rev's, for two thirds
            of the evaluations (docs/tiny-sd3.md#making-it).
        given: names of settings that were; those that only RFDS-Rev reads ask for it.
    """
    if kind_of(source) == "diffusion":
        return "sds"
    if not small:
        return "rfds-rev"
    wanted = set(given) - set(declared(DistillConfig))
    return "rfds-rev" if wanted and not wanted <= _own("rfds") else "rfds"


def trains(guidance: str) -> bool:
    """Whether a guidance trains a LoRA on the model's network."""
    from rfgs.guidance import find_guide

    return find_guide(guidance).trains


def lora_rank(guidance: str, given: Mapping[str, Any]) -> int:
    """The rank of that LoRA; 0 where none is trained."""
    from rfgs.guidance import readable

    known = readable(DistillConfig, guidance)
    return given.get("lora_rank", known["lora_rank"].default) if trains(guidance) else 0


def load_of(
    job: Loading,
    source: str,
    rank: int = 0,
    *,
    perp_neg: bool = False,
    decode: bool = False,
    encode: bool = True,
) -> Load:
    """What a job's way of loading and its settings mean for memory.

    Args:
        source: its model, as `rfgs.models.catalog.source_of` names it.
        rank: see `lora_rank`.
        perp_neg, decode, encode: see `rfgs.models.memory.Load`.
    """
    file, known = single_file.find(source), weighing.footprint(source)
    weights = file.size if file and file.quantized else None
    if job.quantize == "nf4" and known:
        weights = int(NF4 * known.network)
    return Load(
        rank,
        job.offload,
        job.dtype == "float32",
        weights,
        samples=4 if perp_neg else 2,
        decode=decode,
        encode=encode,
        file=file is not None,
    )


def _own(guidance: str) -> set[str]:
    from rfgs.guidance import find_guide

    return set(declared(find_guide(guidance).settings))
