"""All phases of a run with the big models' preset, on models of their layout with random weights: what is left is the real
weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rfgs.distill import DistillConfig, Step
from rfgs.distill.recipes import sd3_recipe
from rfgs.export import read_ply
from rfgs.priors import Prior
from rfgs.priors.flow import noise_range_at
from rfgs.runs.generate import generate
from rfgs.runs.job import Job
from tests.priors import layouts

STEPS, VIEWS, START = 10, 2, 100
NARROW = {"attention_head_dim": 16, "caption_projection_dim": 32}
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "mcmc": {},
    "without T5": {"t5": "drop"},
    "offloaded": {"offload": True},
    "compiled": {"compile": True},
    "bfloat16": {"dtype": "bfloat16"},
    "klein": {},
    "z_image": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fiftieth of SD3 medium's width, 32 channels for 1536, and 2 layers for 24: each is read by Dynamo, in seconds."""
    return layouts.stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=True, num_layers=2, **NARROW)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A network this narrow has nothing to share out, and threads that wait for each other take ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", WAYS)
def test_embed_free_loop_densify_checkpoint_export_resume(
    way: str,
    folder: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if way in ("klein", "z_image"):
        folder = request.getfixturevalue(way)
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))
    for pictures in ("write_turntable", "write_strip"):  # Which take longer than the steps.
        monkeypatch.setattr(f"rfgs.runs.recorder.{pictures}", lambda splats, path, **options: path.touch())
    # Dynamo reads the network and no code is generated, which would take minutes.
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile(module, backend="eager"))
    torch._dynamo.reset()
    out = tmp_path / "run"
    out.mkdir()
    loaded: list[tuple[DistillConfig, Prior]] = []
    steps: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def on_start(config: DistillConfig, prior: Prior) -> None:
        config.densify_every = 4
        loaded.append((config, prior))

    def on_step(step: Step) -> None:
        steps.append((len(step.splats), step.t, step.cameras.elevations))

    job = Job(
        "a red cube",
        model=str(folder),
        settings={
            "steps": STEPS,
            "views_per_step": VIEWS,
            "splats": START,
            "max_splats": 110,
            "resolution": 64,
            "densify": "mcmc" if way == "mcmc" else "quantile",
        },
        **{"dtype": "float32", **WAYS[way]},
    )
    result = generate(job, out, on_start=on_start, on_step=on_step)

    # The preset's numbers, but for what the job says.
    config, prior = loaded[0]
    expected = replace(
        sd3_recipe(),
        prompt=job.prompt,
        steps=STEPS,
        views_per_step=VIEWS,
        resolution=64,
        splats=START,
        densify=job.settings["densify"],
        max_splats=110,
        densify_every=4,
    )
    assert config == expected
    # Five sides, the prompt and the negative one were embedded before the loop, and no encoder is left.
    assert prior.text._encoders is None and len(prior.text._known) == 7
    # The two CLIPs are read too quickly to be kept.
    assert len(list((tmp_path / "cache").glob("embeddings/*"))) == (0 if job.t5 == "drop" else 7)
    # Schedules: the noise moves to its final range, and every fifth step looks from above.
    for index, (_, t, elevations) in enumerate(steps):
        low, high = noise_range_at(index / (STEPS - 1), config.noise_range, config.final_noise_range)
        assert (t >= low - 1e-6).all() and (t <= high + 1e-6).all()
        assert (elevations.min() > 44) == ((index + 1) % 5 == 0)
    counts = [count for count, *_ in steps]
    assert counts[:3] == [START] * 3 and START < counts[-1] <= 110

    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "finished" and record["evaluations"]["forward"] == STEPS * VIEWS * 3
    assert record["dtype"] == ("bfloat16" if job.dtype == "bfloat16" else "float32")
    splats = read_ply(out / "splats.ply")
    assert 0 < len(splats) == len(result.splats) <= counts[-1]  # Haze is left out.
    assert all(torch.isfinite(value).all() for value in splats.parameters().values())
    assert len(list((out / "snapshots").iterdir())) == len(list((out / "previews").iterdir())) == 5

    again = generate(replace(job, settings={**job.settings, "steps": STEPS + 1}), out, resume=True)
    assert again.record["resumed_after_steps"] == [STEPS]
    assert not torch.equal(again.splats.means, result.splats.means)
