"""The prompt sets: `python -m rfgs.tinyworld.prompts` writes them. Three are of scenes that training never shows.

As T3Bench (He et al. 2023) has them: a single object, a single object with surroundings, multiple objects. Whoever
generates from these prompts asks for compositions that the priors have not seen. `held_out.txt` lists, by name, all single
things and all scenes with surroundings that training never shows; pairs are too many for a list, see `Scene.held_out`.

A fourth set, "open", says no colors: every kind alone ("a cactus"), and between them scenes with surroundings and pairs that
training never shows in any look.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from rfgs.tinyworld.kinds import NATURAL
from rfgs.tinyworld.language import caption, open_phrase, parse
from rfgs.tinyworld.scenes import (
    COLORS,
    FINISHES,
    GROUNDS,
    KINDS,
    RELATIONS,
    THINGS,
    Scene,
    Thing,
    draw_scene,
)

PROMPTS = 40
"""Prompts in each set."""
PROMPT_SETS = ("single", "surroundings", "multiple")
OPEN = "open"
"""The set of prompts that leave colors open."""
FOLDER = Path(str(files("rfgs.assets"))) / "prompts"
_AT_MOST = 2  # Scenes of a set that any one kind may begin: 40 are then spread over at least 20 kinds.


def held_out_scenes(prompt_set: str, seed: int = 0) -> list[Scene]:
    """40 different held-out scenes of the set "single", "surroundings" or "multiple", the same for one seed.

    No kind comes first in more than two of them.
    """
    rng = np.random.default_rng([seed, PROMPT_SETS.index(prompt_set)])
    scenes: list[Scene] = []
    kinds: Counter[str] = Counter()
    while len(scenes) < PROMPTS:
        scene = draw_scene(rng, prompt_set, held_out=True)
        kind = scene.things[0].kind
        if scene not in scenes and kinds[kind] < _AT_MOST:
            scenes.append(scene)
            kinds[kind] += 1
    return scenes


def captioned(prompt_set: str) -> dict[str, Scene]:
    """The held-out scenes of a set, by their plainest captions."""
    return {caption(scene): scene for scene in held_out_scenes(prompt_set)}


def open_prompts(seed: int = 0) -> list[str]:
    """Every kind alone and as many prompts of a whole scene, in turns; of these no look is ever shown in training.

    Such a scene is of kinds that people expect one look of: all eight colors are never held out together.
    """
    rng = np.random.default_rng([seed, len(PROMPT_SETS)])
    kinds = list(KINDS)
    alone = [open_phrase(Thing(kinds[i], "white")) for i in rng.permutation(len(kinds))]
    return [prompt for pair in zip(alone, _open_scenes(len(alone), rng), strict=True) for prompt in pair]


def _open_scenes(count: int, rng: np.random.Generator) -> list[str]:
    """Prompts with surroundings and of pairs, in turns; no kind comes first in more than four of them."""
    prompts: list[str] = []
    kinds: Counter[str] = Counter()
    while len(prompts) < count:
        scene = draw_scene(rng, PROMPT_SETS[1 + len(prompts) % 2], held_out=True)
        prompt, kind = caption(scene, closed=False), scene.things[0].kind
        hidden = all(look.held_out for look in parse(prompt).looks())
        two = len({thing.kind for thing in scene.things}) == len(scene.things)
        if hidden and two and prompt not in prompts and kinds[kind] < 2 * _AT_MOST:
            prompts.append(prompt)
            kinds[kind] += 1
    return prompts


def prompt_sets() -> dict[str, list[str]]:
    """The prompts of every set: the plainest captions of the held-out scenes, and the open ones."""
    return {**{name: list(captioned(name)) for name in PROMPT_SETS}, OPEN: open_prompts()}


def near_misses(scene: Scene) -> list[Scene]:
    """All scenes that differ from `scene` in one word: a kind, color, finish, ground or relation."""
    found = []
    for i, thing in enumerate(scene.things):
        others = [replace(thing, kind=kind) for kind in KINDS if kind != thing.kind]
        others += [replace(thing, color=color) for color in COLORS if color != thing.color]
        others += [replace(thing, finish=finish) for finish in FINISHES if finish != thing.finish]
        found += [
            replace(scene, things=(*scene.things[:i], other, *scene.things[i + 1 :])) for other in others
        ]
    if scene.ground:
        found += [replace(scene, ground=ground) for ground in GROUNDS if ground != scene.ground]
    if scene.relation:
        found += [replace(scene, relation=relation) for relation in RELATIONS if relation != scene.relation]
    return found


def rivals(scene: Scene) -> list[str]:
    """What the "exact" score ranks: the caption of `scene`, first, and those of its near misses."""
    return [caption(other) for other in (scene, *near_misses(scene))]


def held_out_names() -> list[str]:
    """Names of all held-out things and then of all held-out scenes with surroundings."""
    # Looks that people expect may have a color that is never said.
    unsaid = [(kind, color) for kind, looks in NATURAL.items() for color, _ in looks if color not in COLORS]
    things = [*THINGS, *(Thing(kind, color, finish) for kind, color in unsaid for finish in FINISHES)]
    scenes = [Scene((thing,)) for thing in things]
    scenes += [Scene((thing,), ground=ground) for thing in things for ground in GROUNDS]
    return [scene.name for scene in scenes if scene.held_out]


def main(folder: Path = FOLDER) -> None:
    """Write the prompt sets of held-out scenes, and the list of these, one a line.

    Args:
        folder: where single.txt and the others go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, prompts in prompt_sets().items():
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n")
        print(f"wrote {folder / name}.txt: {len(prompts)} prompts")
    names = held_out_names()
    (folder / "held_out.txt").write_text("\n".join(names) + "\n")
    print(f"wrote {folder / 'held_out.txt'}: {len(names)} names")


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
