"""What fits on which card, by estimate: `python -m rfgs.measure.cards` prints the tables of docs/base-models.md.

Nothing is loaded and no GPU is wanted; see `rfgs.models.memory` for where the figures come from.
"""

from __future__ import annotations

from dataclasses import replace

from rfgs.measure.markdown import markdown
from rfgs.models.memory import CARDS, FOOTPRINTS, GIB, Footprint, Load, on_the_cpu, plan

BITS = {"8 bit": 8.5, "4 bit": 4.5}
"""Bits of a number of a quantized network, scales included: GGUF's Q8_0, and bitsandbytes' NF4 or GGUF's Q4_0."""
LOADS = {
    "as it is": Load(decode=True),
    "with Perp-Neg": Load(decode=True, samples=4),
    "with a LoRA": Load(decode=True, lora_rank=4),
    "--offload": Load(decode=True, offload=True),
}
"""With the page, whose live panel decodes pictures."""


def models() -> dict[str, Footprint]:
    """Every big backend, and FLUX with a quantized network, which counts as many numbers as take its room in half precision."""
    flux = FOOTPRINTS["flux-dev"]
    quantized = {
        f"flux-dev, {name}": replace(flux, network=int(flux.network * bits / 16))
        for name, bits in BITS.items()
    }
    return FOOTPRINTS | quantized


def cards(load: Load) -> str:
    """A table in Markdown: models by sizes of cards, the estimated peak of the loop in GiB."""
    # Neither does a quantized network take a LoRA here, nor does it leave the GPU.
    known = FOOTPRINTS if load.lora_rank or load.offload else models()
    rows: list[list[str]] = [["", *[f"{size} GiB card" for size in CARDS]]]
    for name, footprint in known.items():
        cells = []
        for size in CARDS:
            found = plan(footprint, size * GIB, load=load)
            views = (
                "" if found is None or found.views == 4 else f", {found.views} view{'s' * (found.views > 1)}"
            )
            marks = "" if found is None else "\\*" * (found.slice_views + found.half_encoder)
            cells.append("-" if found is None else f"{found.total / GIB:.1f}{views}{marks}")
        rows.append([_code(name), *cells])
    return markdown(rows)


def cpu() -> str:
    """A table in Markdown: models by how they are run, the estimated peak of the CPU's memory in GiB."""
    half, full = Load(decode=True), Load(decode=True, full=True)
    rows: list[list[str]] = [["", "CPU, float32", "CPU, bfloat16", "12 GiB card", "24 GiB card", "--offload"]]
    for name in FOOTPRINTS:
        found = [
            on_the_cpu(name, load=full),
            on_the_cpu(name, load=half),
            on_the_cpu(name, device="cuda", gpu=12 * GIB, load=half),
            on_the_cpu(name, device="cuda", gpu=24 * GIB, load=half),
            on_the_cpu(name, device="cuda", load=replace(half, offload=True)),
        ]
        rows.append([_code(name), *[f"{size / GIB:.0f}" for size in found]])
    return markdown(rows)


def _code(name: str) -> str:
    backend, comma, rest = name.partition(",")
    return f"`{backend}`{comma}{rest}"


def tables() -> dict[str, str]:
    """All tables, by what they are of."""
    return {name: cards(load) for name, load in LOADS.items()} | {"the CPU's memory": cpu()}


if __name__ == "__main__":
    for name, table in tables().items():
        print(f"{name}:\n\n{table}\n")
