"""The tables of `docs/hardware.md`, made of what `rfgs.measure.hardware` found."""

from __future__ import annotations

from typing import Any

from rfgs.errors import UserError

BEGIN, END = "<!-- measured: written by bench/hardware.py -->", "<!-- end of what was measured -->"
PARTS = ("render", "encode", "prior", "backward", "optimizer")


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with what was measured between its two marks.

    Raises:
        UserError: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the page has no {BEGIN} and {END} to write between")
    return f"{before}{BEGIN}\n\n{tables(found)}\n\n{END}{after}"


def tables(found: dict[str, Any]) -> str:
    """All tables and, in words, what there was no time for."""
    about = found["machine"]
    versions = about["versions"]
    on = about.get("gpu") or f"no GPU but {about['cpu']}"
    lines = [
        f"On {on}, with torch {versions['torch']} (CUDA {about['torch_cuda']}, driver {about['driver_cuda']}), "
        f"gsplat {versions['gsplat']}, diffusers {versions['diffusers']}, in {found['seconds']:.0f} s.",
        "",
        "| self-test | | |",
        "|---|---|---|",
    ]
    for row in found["self-test"]:
        lines.append(
            _broken(row, 3)
            or f"| {row['name']} | {'works' if row['works'] else '**does not work**'} | {row['detail']} |"
        )
    heads = " | ".join(f"{part}, ms" for part in PARTS)
    lines += [
        "",
        f"| steps | a second | peak, GiB | estimated, GiB | {heads} |",
        "|---" * (4 + len(PARTS)) + "|",
    ]
    lines += [_broken(row, 4 + len(PARTS)) or _step(row) for row in found["steps"]]
    lines += [
        "",
        "| rasterizer | forward, ms | backward, ms | % of the memory's bandwidth |",
        "|---|---|---|---|",
    ]
    for row in found["rasterizer"]:
        text = f"| {row['label']} |" if "error" not in row else ""
        if text:
            text += (
                f" {row['forward_ms']:.2f} | {row['backward_ms']:.2f} | {row['percent_of_bandwidth']:.1f} |"
            )
        lines.append(text or _broken(row, 4))
    lines += ["", "| where a step goes | calls | ms | % |", "|---|---|---|---|"]
    for row in found["kernels"]:
        lines.append(
            _broken(row, 4)
            or f"| `{row['label'].replace('|', '/')}` | {row['calls']} | {row['ms']:.2f} | {row['percent']:.1f} |"
        )
    if found["not reached"]:
        lines += ["", f"Not reached in the time that there was: {'; '.join(found['not reached'])}."]
    return "\n".join(lines)


def _step(row: dict[str, Any]) -> str:
    estimate = "-" if row["estimate"] is None else f"{row['estimate'] / 2**30:.1f}"
    peak = "-" if row["peak"] is None else f"{row['peak'] / 2**30:.1f}"
    times = " | ".join(f"{row['ms'].get(part, 0.0):.1f}" for part in PARTS)
    return f"| {row['label']} | {row['steps_a_second']:.2f} | {peak} | {estimate} | {times} |"


def _broken(row: dict[str, Any], columns: int) -> str:
    """A row for what ended in an error; "" for all others."""
    if "error" not in row:
        return ""
    return f"| {row['label']} | **{row['error'].replace('|', '/')}** |" + " |" * (columns - 2)
