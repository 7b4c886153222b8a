"""The CPU rasterizer's speed: Gaussians x resolution x cameras x threads, forward and backward.

    python bench/rasterizer.py                # the whole table, about 3 minutes
    python bench/rasterizer.py --quick        # where `rfgs generate` lives

Each repetition times, in turn, a calibration kernel (fused multiply-adds in registers), our rasterizer and a pure-torch
peer, so that a busy machine slows all three alike. "cpu ms" is the least processor time of all threads together, which
preemption by other programs does not count against; ratios and shares are of processor time. The share of the FMA
limit counts 99 floating-point operations (37 forward, 62 backward) for each lane that the compositor may evaluate.
"""

import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from program import RESULTS
from torch_tiles import rasterization as torch_rasterization

from rfgs.measure.rows import made_by, write_rows
from rfgs.render import cpu
from rfgs.render.access import load, next_item, store
from rfgs.render.cameras import sample_orbit
from rfgs.render.jit import COUNTER, F1, Kernel, kernel
from rfgs.render.simd import fma, splat

FLOPS_PER_LANE = 99
ROUNDS = 200_000
QUICK = [(5_000, 64, 4), (5_000, 128, 4), (20_000, 64, 4), (20_000, 128, 4)]
ALL = [(n, px, c) for n in (5_000, 20_000, 100_000) for px in (64, 128, 256, 512) for c in (1, 4)]
PEER_LIMIT = 20_000 * 256 * 256  # Gaussians x pixels: beyond, the peer takes minutes


@kernel(f"void({COUNTER}, int64, {F1})")
def multiply_add(counter, items, out):
    """Ten independent chains of fused multiply-adds: nothing that the machine does is faster."""
    while True:
        item = next_item(counter)
        if item >= items:
            break
        x = load(out, 0)
        a = b = c = d = e = f = g = h = i = j = splat(1.0)
        for _ in range(ROUNDS):
            a, b, c, d, e = fma(a, x, x), fma(b, x, x), fma(c, x, x), fma(d, x, x), fma(e, x, x)
            f, g, h, i, j = fma(f, x, x), fma(g, x, x), fma(h, x, x), fma(i, x, x), fma(j, x, x)
        store(out, 8, a + b + c + d + e + f + g + h + i + j)


def fma_rate() -> float:
    """GFLOP/s of one thread now."""
    out = np.full(16, 0.5, np.float32)
    start = time.process_time()
    multiply_add(np.zeros(1, np.int64), 1, out)
    return ROUNDS * 10 * 8 * 2 / (time.process_time() - start) / 1e9


def ball(count: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Gaussians in a unit ball, half as wide as their distance from each other, of all opacities."""
    means = torch.randn(count, 3, generator=generator)
    means = means / means.norm(dim=-1, keepdim=True) * torch.rand(count, 1, generator=generator) ** (1 / 3)
    scales = 0.5 * count ** (-1 / 3) * torch.exp(0.4 * torch.randn(count, 3, generator=generator))
    quats = torch.randn(count, 4, generator=generator)
    return with_looks(means, quats, scales, generator)


def with_looks(
    means: torch.Tensor, quats: torch.Tensor, scales: torch.Tensor, generator: torch.Generator
) -> list[torch.Tensor]:
    """These and random opacities and colors, all to be differentiated by."""
    opacities = torch.rand(len(means), generator=generator)
    colors = torch.rand(len(means), 3, generator=generator)
    return [leaf.requires_grad_() for leaf in (means, quats, scales, opacities, colors)]


def step(function, leaves, cameras, cotangents) -> tuple[float, float, float, float, torch.Tensor]:
    """Milliseconds of the forward and of the backward pass, the same of processor time, and the image."""
    for leaf in leaves:
        leaf.grad = None
    times = [(time.perf_counter(), time.process_time())]
    colors, alphas = function(*leaves, cameras.viewmats, cameras.Ks, cameras.width, cameras.height)[:2]
    times.append((time.perf_counter(), time.process_time()))
    torch.autograd.backward((colors, alphas), cotangents)
    times.append((time.perf_counter(), time.process_time()))
    (wall0, cpu0), (wall1, cpu1), (wall2, cpu2) = times
    return (
        (wall1 - wall0) * 1e3,
        (wall2 - wall1) * 1e3,
        (cpu1 - cpu0) * 1e3,
        (cpu2 - cpu1) * 1e3,
        colors.detach(),
    )


def lanes(leaves, cameras) -> int:
    """SIMD lanes that the compositor evaluates at most: 8 for each block that a Gaussian's ellipse reaches."""
    seen = []
    original = cpu.launch

    def spy(function: Kernel, items, *args, **options):
        original(function, items, *args, **options)
        if function.name == "composite_forward":
            seen.append(args[3])

    cpu.launch = spy
    try:
        cpu.rasterization(*leaves, cameras.viewmats, cameras.Ks, cameras.width, cameras.height)
    finally:
        cpu.launch = original
    return 8 * sum(int(mask).bit_count() for mask in seen[0])


def measure(count: int, px: int, views: int, threads: int, repetitions: int, peer: bool) -> dict:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    leaves, cameras = ball(count, generator), sample_orbit(views, px, px, generator=generator)
    cotangents = (
        torch.randn(views, px, px, 3, generator=generator),
        torch.randn(views, px, px, 1, generator=generator),
    )
    step(cpu.rasterization, leaves, cameras, cotangents)
    rates, ours, peers, difference = [], [], [], 0.0
    for repetition in range(repetitions):
        rates.append(fma_rate())
        *times, image = step(cpu.rasterization, leaves, cameras, cotangents)
        ours.append(times)
        if peer and repetition < 2:
            *times, other = step(torch_rasterization, leaves, cameras, cotangents)
            peers.append(times[2] + times[3])
            difference = (image - other).abs().max().item()
    evaluated, rate = lanes(leaves, cameras), max(rates)
    row = {
        "gaussians": count, "px": px, "cameras": views, "threads": threads,
        "forward_ms": statistics.median(t[0] for t in ours), "backward_ms": statistics.median(t[1] for t in ours),
        "best_ms": min(t[0] + t[1] for t in ours), "cpu_ms": min(t[2] + t[3] for t in ours),
        "fma_gflops": rate, "lanes": evaluated,
    }  # fmt: skip
    row["percent_of_fma"] = 100 * evaluated * FLOPS_PER_LANE / (row["cpu_ms"] * 1e6 * rate)
    if peers:
        row |= {
            "peer_cpu_ms": min(peers),
            "ratio": min(peers) / row["cpu_ms"],
            "largest_difference": difference,
        }
    return row


def plot(rows: list[dict], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for count in sorted({row["gaussians"] for row in rows}):
        for threads, style in ((1, "o--"), (2, "s-")):
            chosen = [r for r in rows if (r["gaussians"], r["threads"], r["cameras"]) == (count, threads, 4)]
            label = f"rfgs, {count:,} Gaussians, {threads} thread{'s' * (threads > 1)}"
            axes.plot([r["px"] for r in chosen], [r["best_ms"] for r in chosen], style, label=label)
    peers = [r for r in rows if "peer_cpu_ms" in r and r["cameras"] == 4 and r["threads"] == 1]
    for count in sorted({r["gaussians"] for r in peers}):
        chosen = [r for r in peers if r["gaussians"] == count]
        axes.plot(
            [r["px"] for r in chosen],
            [r["peer_cpu_ms"] for r in chosen],
            "x:",
            label=f"torch tiles, {count:,}, 1 thread",
        )
    axes.set(
        xscale="log", yscale="log", xlabel="image side (pixels)", ylabel="ms, forward + backward, 4 views"
    )
    axes.set_xticks(sorted({r["px"] for r in rows}), [str(px) for px in sorted({r["px"] for r in rows})])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(
    quick: bool = False,
    repetitions: int = 9,
    threads: tuple[int, ...] = (1, 2),
    peer: bool = True,
    output: Path = RESULTS / "rasterizer.jsonl",
) -> None:
    """Measure, print a table, and write it and a plot.

    Args:
        quick: only the sizes where `rfgs generate` lives.
        repetitions: of each measurement; the medians and the best are kept.
        threads: numbers of threads to try.
        peer: also time the pure-torch peer, where it takes seconds and not minutes.
        output: the table; the plot gets the same name with .png.
    """
    rows = []
    print(
        "Gaussians   px  cams thr | forward backward   best   cpu ms | % of FMA | torch ms  ratio  max diff"
    )
    for count, px, views in QUICK if quick else ALL:
        for number in threads:
            with_peer = peer and number == 1 and count * px * px * views <= PEER_LIMIT
            row = measure(count, px, views, number, repetitions, with_peer)
            rows.append(row)
            line = (
                f"{count:9,} {px:4} {views:5} {number:3} | {row['forward_ms']:7.1f} {row['backward_ms']:8.1f} "
                f"{row['best_ms']:6.1f} {row['cpu_ms']:8.1f} | {row['percent_of_fma']:7.1f}  |"
            )
            if with_peer:
                line += f" {row['peer_cpu_ms']:8.0f} {row['ratio']:6.0f}  {row['largest_difference']:.1e}"
            print(line, flush=True)
    about = {"system": platform.platform(), **made_by()}
    write_rows(output, [{**row, **about} for row in rows])
    if not quick:
        plot(rows, output.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main)
