"""Which guidance goes with which model and which settings, told before anything is loaded. No torch here."""

from __future__ import annotations

from rfgs.errors import UserError
from rfgs.models.kind import family_of, kind_of
from rfgs.runs.job import KINDS, LORA_GUIDANCES, Guidance, Method


def check_pair(guidance: Guidance, source: str) -> None:
    """That the model `source` (as `rfgs.models.catalogue.find_model` takes it) is of the kind that the guidance is defined for.

    A model whose kind cannot be told without the network is let through; `rfgs.priors.load_prior` will tell.

    Raises:
        UserError: it is not.
    """
    family = family_of(source)
    if guidance in LORA_GUIDANCES and family and not family.network:
        raise UserError(
            f"--guidance {guidance}: trains a LoRA on the model's network, and {source} has none; "
            "use --guidance rfds or rfds-rev"
        )
    if family is None or family.kind == KINDS[guidance]:
        return
    fitting = [name for name in KINDS if KINDS[name] == family.kind]
    what = {"flow": "rectified flows", "diffusion": "diffusion models"}
    other = {"flow": "tiny-sd3 or sd3", "diffusion": "tiny-sd or sd15"}[KINDS[guidance]]
    raise UserError(
        f"--guidance {guidance}: is defined for {what[KINDS[guidance]]}, and {source} is none; "
        f"use --guidance {' or '.join(fitting)}, or another model such as --backend {other}"
    )


def usual_guidance(source: str, small: bool, method: Method) -> Guidance:
    """What suits a model where no guidance is asked for.

    Args:
        small: one of our own small models, under which assets of RFDS are nearer to the truth than RFDS-Rev's, for two thirds
            of the evaluations (docs/tiny-sd3.md#making-it).
        method: settings that only RFDS-Rev reads ask for it.
    """
    if kind_of(source) == "diffusion":
        return "sds"
    given = any(value is not None for value in _inner(method).values())
    return "rfds" if small and not given else "rfds-rev"


def _inner(method: Method) -> dict[str, object]:
    """Flags of RFDS-Rev's inner steps, with what is given of them."""
    return {
        "--inner-steps": method.inner_steps,
        "--inner-step-size": method.inner_step_size,
        "--inner-optimiser": None if method.inner_optimiser == "gradient" else method.inner_optimiser,
        "--renormalise-noise": True if method.renormalise_noise else None,
    }


def check_method(method: Method) -> None:
    """Settings that can be, for guidances that have them.

    Raises:
        UserError: a number out of its range, or a setting of another guidance than the one asked for.
    """
    inner = _inner(method)
    lora = {
        "--lora-rank": method.lora_rank,
        "--lora-steps": method.lora_steps,
        "--lr-lora": method.lr_lora,
    }
    for flags, guidances in ((inner, ("rfds-rev",)), (lora, LORA_GUIDANCES)):
        for flag, value in flags.items():
            if value is not None and method.guidance not in guidances:
                raise UserError(
                    f"{flag}: only {' and '.join(guidances)} can use it; leave it out with --guidance {method.guidance}"
                )
    for flag, value, example in (
        ("--inner-steps", method.inner_steps, 1),
        ("--lora-rank", method.lora_rank, 4),
        ("--lora-steps", method.lora_steps, 1),
    ):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value}: has to be at least 1; try {flag} {example}")
    for flag, number, usual in (
        ("--inner-step-size", method.inner_step_size, 1),
        ("--lr-lora", method.lr_lora, 1e-4),
    ):
        if number is not None and not 0 < number < float("inf"):
            raise UserError(f"{flag} {number:g}: has to be a positive number; try {flag} {usual:g}")
