"""How the CPU rasterizer's cost grows with the number of Gaussians, to a million, and with the image, to 1024 pixels.

    python bench/scaling.py             # about 3 minutes

One camera, one thread, forward and backward pass, by processor time, so that other programs do not count. Every size has
a process of its own, which tells how far its memory rises above what it held before the step: the inputs do not count,
images and gradients do (only on Linux).

Three series. "ball": the scene of `rasterizer.py`, whose Gaussians shrink as they grow more numerous. "heap": the worst
case, all of them in front of the same tiles. "image": 20,000 Gaussians in ever larger images. The exponent
is the slope of a straight line through the logarithms of cost and size (for images: of the number of pixels), over the
upper half of the sizes, where fixed costs matter least; "steepest" is the largest slope between two neighbors.
"""

import math
import multiprocessing
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from program import RESULTS
from rasterizer import ball, step, with_looks

from rfgs.measure.rows import made_by, write_rows
from rfgs.render import cpu
from rfgs.render.cameras import orbit

COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SERIES = {
    "ball": [(count, 256) for count in COUNTS],
    "heap": [(count, 64) for count in COUNTS],
    "image": [(20_000, px) for px in (32, 64, 128, 256, 512, 1024)],
}
COSTS = ("forward_ms", "backward_ms", "peak_mb")


def heap(count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Gaussians of one size, all close to the origin."""
    means = 0.05 * torch.randn(count, 3, generator=generator)
    quats, scales = torch.randn(count, 4, generator=generator), torch.full((count, 3), 0.05)
    return with_looks(means, quats, scales, generator)


def _memory(field: str) -> float:
    """VmRSS (resident now) or VmHWM (at most so far) of this process in MB; not a number where Linux is not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    return int(status.read_text().split(f"{field}:")[1].split()[0]) / 1024


def measure(name: str, count: int, px: int, repetitions: int) -> dict:
    """One size; to be called in a process of its own."""
    torch.set_num_threads(1)
    generator, camera = torch.Generator().manual_seed(0), orbit(30, 15, 3.2, 40, px, px)
    cotangents = (
        torch.randn(1, px, px, 3, generator=generator),
        torch.randn(1, px, px, 1, generator=generator),
    )
    small, tiny = ball(10, generator), orbit(30, 15, 3.2, 40, 16, 16)
    step(cpu.rasterization, small, tiny, (torch.ones(1, 16, 16, 3), torch.ones(1, 16, 16, 1)))  # compiles
    leaves = (heap if name == "heap" else ball)(count, generator)
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _memory("VmRSS")
    times = [step(cpu.rasterization, leaves, camera, cotangents)[2:4]]
    peak = _memory("VmHWM") - before
    times += [step(cpu.rasterization, leaves, camera, cotangents)[2:4] for _ in range(repetitions)]
    forward, backward = (min(t[k] for t in times[1:]) for k in (0, 1))
    return {"gaussians": count, "px": px, "forward_ms": forward, "backward_ms": backward, "peak_mb": peak}


def slope(sizes: list[float], costs: list[float]) -> float:
    """The exponent p of the power law cost = c size^p that fits best in logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def exponents(name: str, rows: list[dict]) -> dict[str, dict[str, float]]:
    """For each cost the exponent over the upper half of the sizes, and the steepest slope between two neighbors."""
    sizes = [float(row["px"] ** 2 if name == "image" else row["gaussians"]) for row in rows]
    found = {}
    for cost in COSTS:
        costs, half = [row[cost] for row in rows], len(rows) // 2
        steepest = max(slope(sizes[k : k + 2], costs[k : k + 2]) for k in range(len(rows) - 1))
        found[cost] = {"exponent": slope(sizes[half:], costs[half:]), "steepest": steepest}
    return found


def plot(series: dict[str, list[dict]], path: Path) -> None:
    figure = Figure(figsize=(11, 3.6))
    axes = figure.subplots(1, 3)
    titles = {"ball": "ball, 256 px", "heap": "heap, 64 px", "image": "20,000 Gaussians"}
    for axis, (name, rows) in zip(axes, series.items(), strict=True):
        sizes = [row["px"] ** 2 if name == "image" else row["gaussians"] for row in rows]
        for cost, style in zip(COSTS, ("o-", "s-", "x:"), strict=True):
            axis.plot(
                sizes, [row[cost] for row in rows], style, label=cost.replace("_", ", ").replace("mb", "MB")
            )
        last = rows[-1]["backward_ms"]
        axis.plot(
            sizes, [last * size / sizes[-1] for size in sizes], "k--", lw=0.8, alpha=0.5, label="proportional"
        )
        axis.set(
            xscale="log",
            yscale="log",
            title=titles[name],
            xlabel="pixels" if name == "image" else "Gaussians",
        )
        axis.set_ylim(bottom=0.1)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main(repetitions: int = 5, output: Path = RESULTS / "scaling.jsonl") -> None:
    """Measure, print a table and the exponents, and write it and a plot.

    Args:
        repetitions: of each size; the least processor time is kept.
        output: the table; the plot gets the same name with .png.
    """
    series = {}
    context = multiprocessing.get_context("spawn")
    print("series  Gaussians    px | forward backward ms |  peak MB")
    for name, sizes in SERIES.items():
        series[name] = []
        for count, px in sizes:
            with context.Pool(1) as pool:
                row = pool.apply(measure, (name, count, px, repetitions))
            series[name].append(row)
            times = f"{row['forward_ms']:7.1f} {row['backward_ms']:8.1f}"
            print(f"{name:6} {count:10,} {px:5} | {times}    | {row['peak_mb']:8.1f}", flush=True)
    for name, rows in series.items():
        fit = exponents(name, rows)
        told = (f"{cost} {f['exponent']:.2f} (steepest {f['steepest']:.2f})" for cost, f in fit.items())
        print(f"exponents, {name}: {', '.join(told)}")
    about = made_by()
    write_rows(output, [{"series": name, **row, **about} for name, rows in series.items() for row in rows])
    plot(series, output.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main)
