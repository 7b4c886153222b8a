"""A curve over steps as a picture, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 320, 64, 36, 28, 16
PALE, DARK, AXIS = (180, 200, 235), (25, 75, 170), (90, 90, 90)


def write_curve(path: str | Path, values: Sequence[float], title: str, *, window: int = 1) -> None:
    """Draw values over steps 1, 2, ...; ones that are not finite leave a gap.

    Args:
        window: values in the moving average that is drawn dark above the pale curve; 1 draws the values themselves.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - 1) / max(len(values) - 1, 1)
        up = (value - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    draw.line([(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], fill=AXIS)
    draw.text((LEFT, 8), title, fill="black")
    for value in (low, (low + high) / 2, high):
        draw.text((LEFT - 6, place(1, value)[1]), f"{value:.3g}", fill="black", anchor="rm")
    for step in sorted({1, (len(values) + 1) // 2, max(len(values), 1)}):
        draw.text((place(step, low)[0], HEIGHT - BOTTOM + 6), f"step {step}", fill="black", anchor="ma")
    for line, colour in ((values, PALE if window > 1 else DARK), (moving_average(values, window), DARK)):
        for step in range(1, len(line)):
            pair = line[step - 1 : step + 1]
            if all(map(math.isfinite, pair)):
                draw.line([place(step, pair[0]), place(step + 1, pair[1])], fill=colour, width=2)
    image.save(path)


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to window - 1 before it, without those that are not finite."""
    averages = []
    for end in range(1, len(values) + 1):
        part = [value for value in values[max(0, end - window) : end] if math.isfinite(value)]
        averages.append(sum(part) / len(part) if part else math.nan)
    return averages
