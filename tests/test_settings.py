"""A setting is declared once: what a declaration is, and that one edit, or one file from outside, reaches every place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from rfgs.distill.settings import DistillConfig
from rfgs.errors import UserError
from rfgs.flat.settings import ParticleConfig
from rfgs.render.cameras import DEFAULT_FOV
from rfgs.settings import Unfit, assign, check, declared, parse, setting, shown

ROOT = Path(__file__).parent.parent


@dataclass
class Example:
    count: int = setting(3, "How many.", least=1, most=9)
    size: float = setting(0.5, above=0)
    side: int | None = setting(None, least=32, multiple=16)
    reach: tuple[float, float] = setting((0.1, 0.9), least=0, most=1)
    way: Literal["up", "down"] = "up"
    loud: bool = False
    word: str = "a"


KNOWN = declared(Example)


def test_values_come_in_the_types_of_their_settings() -> None:
    texts = ["count=9", "size=2", "side=64", "reach=0,1", "way=down", "loud=True", "word=a = b"]
    values = {
        "count": 9,
        "size": 2.0,
        "side": 64,
        "reach": (0.0, 1.0),
        "way": "down",
        "loud": True,
        "word": "a = b",
    }
    assert parse(texts, KNOWN) == values
    assert check({**values, "reach": [0, 1], "size": 2}, KNOWN) == values
    assert check({"side": None}, KNOWN) == {"side": None}
    assert parse([f"{name}={shown(value)}" for name, value in values.items()], KNOWN) == values


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count 0: has to be a whole number from 1 to 9; try 3"),
        ("count", 2.5, "count 2.5: has to be a whole number from 1 to 9; try 3"),
        ("count", True, "count true: has to be a whole number from 1 to 9; try 3"),
        ("size", 0, "size 0: has to be a number above 0; try 0.5"),
        ("size", float("inf"), "size inf: has to be a number above 0; try 0.5"),
        ("side", 100, "side 100: has to be a multiple of 16 and at least 32; try 96"),
        (
            "reach",
            (0.9, 0.1),
            "reach 0.9,0.1: has to be two numbers from 0 to 1, the smaller one first; try 0.1,0.9",
        ),
        pytest.param("side", 16 * 10**400, "side 16000", id="side, long"),
        pytest.param("size", 10**400, "size 1000", id="size, long"),
        pytest.param("reach", [0.1, 10**400], "reach 0.1,1000", id="reach, long"),
        ("reach", [0.1, 0.2, 0.3], "reach 0.1,0.2,0.3: has to be two numbers"),
        ("reach", [0.1, float("nan")], "reach 0.1,nan: has to be two numbers"),
        ("way", "left", "way left: has to be one of up, down"),
        ("loud", 1, "loud 1: has to be true or false; try false"),
        ("word", 1, "word 1: has to be text"),
    ],
)
def test_values_that_do_not_fit(name: str, value: object, message: str) -> None:
    with pytest.raises(Unfit) as refused:
        check({name: value}, KNOWN)
    assert str(refused.value).startswith(message)


def test_names_that_are_none() -> None:
    with pytest.raises(UserError, match="there is no setting cuont; did you mean count?"):
        check({"cuont": 1}, KNOWN)
    config = DistillConfig()
    assign(config, {"steps": 3, "inner_steps": 2})
    assert (config.steps, config.own) == (3, {"inner_steps": 2})


@pytest.mark.parametrize("kind", [DistillConfig, ParticleConfig])
def test_every_default_fits_and_every_setting_has_help(kind: type) -> None:
    from rfgs.guidance import guides

    for config in (kind, *(guide.settings for guide in guides().values())):
        for name, one in declared(config).items():
            assert one.checked(one.default) == one.default, name
            assert one.help.endswith("."), name
    assert DistillConfig().fov_range == (DEFAULT_FOV, DEFAULT_FOV)


GUIDANCE = """
from dataclasses import dataclass
from rfgs.guidance import Guide, own, rfds
from rfgs.settings import setting

@dataclass(frozen=True)
class LouderSettings:
    loudness: float = setting(1.0, "How much the guidance grows with the noise.", least=0, steer=True)

class Louder(Guide):
    kind, settings = "flow", LouderSettings

    def __call__(self, views, config):
        scale = config.guidance_scale * (1 + own(LouderSettings, config).loudness * views.t.mean().item())
        return rfds(
            self.prior, views.x, views.condition, views.negative, t=views.t, e=views.e, guidance_scale=scale
        )
"""

SCRIPT = """
import json, sys, types
from pathlib import Path
import torch
import rfgs.runs.generate, rfgs.runs.recorder
from rfgs.cli.main import main
from rfgs.distill import DistillConfig
from rfgs.measure.plan import find_columns
from rfgs.measure.given import parse_settings
from rfgs.priors.base import Condition
from rfgs.priors.flow import Flow
from rfgs.viewer.steer_panel import SteerPanel
from rfgs.viewer.steering import Steering

class Grey(Flow):
    name, kind, image_size, vocabulary = "grey", "flow", 32, frozenset({"red"})
    def embed(self, prompts):
        return Condition(torch.zeros(len(prompts), 1, 3))
    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 4)
    def decode(self, latents):
        return latents.repeat_interleave(4, -1).repeat_interleave(4, -2)
    def predict(self, x_t, t, condition):
        return x_t - 0.5

# A model costs seconds to load, and pictures are for the exporters' tests.
rfgs.runs.generate.load_prior = lambda *args, **options: Grey()
rfgs.runs.recorder.write_turntable = rfgs.runs.recorder.write_strip = lambda splats, path, **options: path.touch()

def refused(*arguments):
    try:
        main(arguments)
    except SystemExit as exit_:
        return exit_.code == 2

run = ["generate", "a red cube", "--guidance", "louder:Louder", "--no-viewer", "--output", "run", "--device", "cpu"]
run += ["--set", "splats=20", "--views-per-step", "1", "--steps", "1", "--set", "resolution=32"]
main([*run, "--set", "sparkle=0.25", "--set", "loudness=2"])
first = json.loads(Path("run/run.json").read_text())
main(["generate", "--resume", "run", "--steps", "2", "--no-viewer"])
second = json.loads(Path("run/run.json").read_text())
refusals = [
    refused(*run, "--set", "sparkle=-1"), refused(*run, "--set", "loudness=-1"),
    refused("generate", "a red cube", "--guidance", "rfds", "--set", "loudness=1"),
]

class Folder(types.SimpleNamespace):
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass

class Gui:
    def __init__(self):
        self.titles = []
    def add_folder(self, title, **options):
        return Folder()
    def __getattr__(self, name):
        def add(title, *args, **options):
            self.titles.append(title)
            return types.SimpleNamespace(value=None, content="", on_update=lambda call: None, on_click=lambda call: None)
        return add

gui = Gui()
SteerPanel(gui, DistillConfig(guidance="louder:Louder"), Steering(), print)
bench = parse_settings(["sparkle=0.5", "loudness=3"], find_columns(["tiny-sd3:louder:Louder"]))
main(["settings", "--guidance", "louder:Louder"])
result = {"first": first, "second": second, "refusals": refusals, "steer": gui.titles, "bench": bench}
Path("result.json").write_text(json.dumps(result))
"""


def test_one_edit_and_one_file_reach_every_place(tmp_path: Path) -> None:
    """A setting of the loop is one edit, here in a copy of the package; a guidance with a setting is one file outside of it."""
    for source, name in ((ROOT / "rfgs", "rfgs"), (ROOT / "cli", "rfgs/cli")):
        shutil.copytree(
            source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    (tmp_path / "rfgs/assets").symlink_to(ROOT / "assets")
    # With what was compiled beside it.
    shutil.rmtree(tmp_path / "rfgs/render")
    (tmp_path / "rfgs/render").symlink_to(ROOT / "rfgs/render")
    edited = tmp_path / "rfgs/distill/settings.py"
    line = '    sparkle: float = setting(0.75, "How much it sparkles.", least=0, steer=True)\n'
    edited.write_text(edited.read_text(encoding="utf-8") + line, encoding="utf-8")
    (tmp_path / "louder.py").write_text(GUIDANCE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    first, second = result["first"], result["second"]
    given = {
        "sparkle": 0.25,
        "loudness": 2.0,
        "splats": 20,
        "views_per_step": 1,
        "steps": 1,
        "resolution": 32,
    }
    assert first["job"]["settings"] == given and first["steps_done"] == 1
    for record in (first, second):
        assert (record["config"]["sparkle"], record["config"]["loudness"]) == (0.25, 2.0)
    assert second["job"]["settings"] == {**given, "steps": 2} and second["resumed_after_steps"] == [1]
    assert result["refusals"] == [True, True, True]
    assert {"Sparkle", "Loudness"} <= set(result["steer"]) and "Inner steps" in result["steer"]
    assert result["bench"] == {"": {"sparkle": 0.5, "loudness": 3.0}}
    assert "  sparkle  a number of at least 0; default: 0.75\n      How much it sparkles.\n" in done.stdout
    assert "  loudness  a number of at least 0; default: 1\n" in done.stdout
