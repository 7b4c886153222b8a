"""All phases of a run with SD3's preset, on a model of its layout with random weights: what is left is the real weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import layouts
import pytest
import torch

from rfgs.distill import DistillConfig
from rfgs.export import read_ply
from rfgs.generate import generate
from rfgs.job import Job
from rfgs.priors import DiffusionPrior, Prior
from rfgs.recipes import sd3_recipe


def test_embed_free_loop_checkpoint_export_resume(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfgs.recorder.write_turntable", lambda splats, path, **options: path.touch())
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))
    folder, out = layouts.stable_diffusion_3(tmp_path, t5=True), tmp_path / "run"
    out.mkdir()
    loaded: list[tuple[DistillConfig, Prior | DiffusionPrior]] = []
    job = Job("a red cube", model=str(folder), steps=2, views_per_step=2, splats=100, resolution=64)
    result = generate(job, out, on_start=lambda config, prior: loaded.append((config, prior)))

    config, prior = loaded[0]
    assert config.guidance_scale == sd3_recipe().guidance_scale
    assert config.noise_range == sd3_recipe().noise_range
    # Five sides, the prompt and the negative one were embedded before the loop, and no encoder is left.
    assert len(list((tmp_path / "cache/embeddings").iterdir())) == 7 and prior.text._encoders is None
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "finished" and record["evaluations"]["forward"] == 2 * 2 * 3
    splats = read_ply(out / "splats.ply")
    assert len(splats) == 100 and all(torch.isfinite(value).all() for value in splats.parameters().values())

    again = generate(replace(job, steps=3), out, resume=True)
    assert again.record["resumed_after_steps"] == [2]
    assert not torch.equal(again.splats.means, result.splats.means)
