"""The list of kinds: whole, colored by known names, and with the looks that people expect."""

from __future__ import annotations

import numpy as np

from rfgs.tinyworld.kinds import KINDS, MELTS, NATURAL, SOLIDS
from rfgs.tinyworld.parts import MAIN, TONES
from rfgs.tinyworld.primitives import PRISM, SPHERE
from rfgs.tinyworld.scenes import COLORS, FINISHES, PAINTS


def test_there_are_forty_one_kinds_of_which_five_are_plain_solids() -> None:
    assert len(KINDS) == 41
    assert SOLIDS == ("cube", "sphere", "cylinder", "cone", "torus")
    assert all(len(KINDS[kind]) == 1 for kind in SOLIDS)
    assert all(len(parts) > 1 for kind, parts in KINDS.items() if kind not in SOLIDS)


def test_every_part_has_a_known_shape_and_color_and_every_kind_a_part_of_its_own() -> None:
    for kind, parts in KINDS.items():
        colors = [part[3] for part in parts]
        assert MAIN in colors and set(colors) <= {MAIN, *TONES}, kind
        for shape, at, sizes, _, *turn in parts:
            assert SPHERE <= shape <= PRISM and len(at) == 3 and 1 <= len(sizes) <= 4
            assert all(size > 0 for size in sizes) and len(turn) in (0, 2), kind
    assert all(0 <= value <= 1 for tone in TONES.values() for value in tone)
    assert {tone for parts in KINDS.values() for *_, tone in [part[:4] for part in parts]} == {MAIN, *TONES}


def test_kinds_that_melt_have_several_parts_that_do_and_a_radius_below_their_sizes() -> None:
    for kind, radius in MELTS.items():
        own = [part for part in KINDS[kind] if part[3] == MAIN]
        assert len(own) > 1 and 0 < radius < 0.5, kind
        # A larger radius would melt small parts away: a cat's ears.
        assert radius <= 0.8 * np.median([max(part[2][:3]) for part in own]), kind
    assert not set(MELTS) & set(SOLIDS)


def test_natural_looks_are_colors_and_finishes_of_the_world() -> None:
    for kind, looks in NATURAL.items():
        assert kind in KINDS and 1 <= len(looks) == len(set(looks)), kind
        assert all(color in PAINTS and finish in FINISHES for color, finish in looks), kind
    # What people name first has a color of its own.
    assert {"cactus", "snowman", "mushroom", "chair", "house", "cat", "apple", "teddy bear"} <= set(NATURAL)
    assert not set(NATURAL) & set(SOLIDS)
    unsaid = {kind for kind, looks in NATURAL.items() for color, _ in looks if color not in COLORS}
    assert unsaid == {"house", "lamp"}
