"""What a user adds without a change to the package: a family of models, and a format to export to. A file and an entry each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rfgs.cli.main import main
from rfgs.errors import UserError
from rfgs.export import FORMATS, Format, write_ply
from rfgs.models import catalog
from rfgs.models.catalog import Backend
from rfgs.models.families import Family
from rfgs.priors import load_prior
from rfgs.splats import ball

ADAPTER = '''
import json
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d, interpolate

from rfgs.priors import Condition, Recipe
from rfgs.priors.flow import Flow, per_sample


class Painter(Flow):
    """A rectified flow that knows one grey."""

    image_size, vocabulary = 32, None
    recipe = Recipe(splats={"guidance_scale": 3.5}, images={"lr_latents": 0.25})

    def __init__(self, name, grey):
        self.name, self.grey = name, grey

    @classmethod
    def load(cls, source, *, name, setup):
        return cls(name, json.loads((Path(source) / "grey.json").read_text()))

    def embed(self, prompts):
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images):
        return avg_pool2d(2 * images - 1, 4)

    def decode(self, latents):
        return interpolate(latents / 2 + 0.5, scale_factor=4)

    def predict(self, x_t, t, condition):
        return (x_t - self.grey) / per_sample(t, x_t)
'''


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a model of a family that the package does not know, which is in the catalog for now."""
    (tmp_path / "painter_prior.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "PainterPipeline"}')
    (folder / "grey.json").write_text("0.5")
    family = Family("painter", "flow", "painter_prior:Painter", pipelines=("PainterPipeline",), network=False)
    backend = Backend("painter", "one grey", family=family, files=str(folder))
    catalog.BACKENDS.append(backend)
    yield folder
    catalog.BACKENDS.remove(backend)


def test_a_family_of_priors(painter: Path, tmp_path: Path) -> None:
    few = ["--steps", "2", "--resolution", "32", "--device", "cpu", "--backend", "painter"]
    splats = ["--splats", "50", "--views-per-step", "1", "--no-viewer", "--output", str(tmp_path / "asset")]
    main(["generate", "a red mug", *few, *splats])
    record = json.loads((tmp_path / "asset" / "run.json").read_text())
    assert record["state"] == "finished" and (tmp_path / "asset" / "splats.ply").is_file()
    # Its own recipe on top of that of big flows, whose evaluations are counted through a wrapper.
    assert record["config"]["guidance_scale"] == 3.5 and record["config"]["time_weight"] == "1-t"
    assert record["evaluations"]["forward"] > 0 and record["job"]["guidance"] == "rfds-rev"

    main(["image", "a red mug", *few, "--particles", "1", "--output", str(tmp_path / "image")])
    record = json.loads((tmp_path / "image" / "run.json").read_text())
    assert record["settings"]["lr_latents"] == 0.25 and (tmp_path / "image" / "image.png").is_file()


def test_a_family_of_priors_is_known_by_its_files(painter: Path) -> None:
    prior = load_prior(painter)
    assert prior.name == str(painter)
    assert prior.predict(torch.ones(1, 3, 2, 2), torch.ones(1), prior.embed([""])).unique().item() == 0.5
    with pytest.raises(UserError, match="a rectified flow, and a diffusion model is wanted"):
        load_prior(painter, "diffusion")


def test_a_family_without_a_network_has_none_to_train(
    painter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "a red mug", "--backend", "painter", "--guidance", "rfds-vsd", "--device", "cpu"])
    assert "trains a LoRA on the model's network, and painter has none" in capsys.readouterr().err


WRITER = r"""
def write_table(splats, path):
    with open(path, "w") as file:
        file.writelines(f"{x:.3f},{y:.3f},{z:.3f}\\\n" for x, y, z in splats.means.tolist())
"""


def test_a_format_to_export_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table_format.py").write_text(WRITER)
    monkeypatch.syspath_prepend(tmp_path)
    table = Format(".csv", "a table of centers", "table_format:write_table", button=("Table", "TABLE", "x"))
    FORMATS.append(table)
    try:
        write_ply(ball(5, 1.0, generator=torch.Generator().manual_seed(0)), tmp_path / "splats.ply")
        main(["export", str(tmp_path / "splats.ply"), str(tmp_path / "splats.csv")])
        assert len((tmp_path / "splats.csv").read_text().splitlines()) == 5
        with pytest.raises(SystemExit):
            main(["export", "--help"])
        assert "a table of" in capsys.readouterr().out
        labels = labels_on_the_page()
        others = [known.suffix for known in FORMATS if not known.button]
        assert labels == ["Splats (.ply)", "Turntable (.mp4)", "Web page (.html)", "Table", *others]
    finally:
        FORMATS.remove(table)


def labels_on_the_page() -> list[str]:
    from rfgs.viewer.save_panel import SavePanel

    labels: list[str] = []

    def add_button(label: str, **_: Any) -> SimpleNamespace:
        labels.append(label)
        return SimpleNamespace(on_click=lambda callback: None)

    def add_folder(label: str, **_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    gui: Any = SimpleNamespace(add_html=lambda content: None, add_button=add_button, add_folder=add_folder)
    nothing: Any = None
    SavePanel(gui, nothing, nothing, "x", of_run=False)
    return labels
