"""Matrix products in 8 bits: which weights go there, how near they stay, and what it costs an embedded model in exactness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rfgs.models import machine
from rfgs.priors import converted, eight_bits, engine, guided, load_prior
from rfgs.priors.fit import distillation_dtype

pytestmark = pytest.mark.skipif(machine.version("openvino") is None, reason="OpenVINO is not installed")
needs_vnni = pytest.mark.skipif(
    distillation_dtype("cpu") is None or not eight_bits.is_fast(),
    reason="no bfloat16 with VNNI, or AMX beside it",
)
WIDTH = eight_bits.GROUP


def product(width: int, *, tokens: bool = True) -> tuple[Any, np.ndarray]:
    """A graph of one product, of tokens or of a row a sample, and its weights, one row of them positive and one zero."""
    from openvino import Model
    from openvino import opset13 as ops

    weights = np.random.default_rng(0).standard_normal((5, width)).astype(np.float32)
    weights[0], weights[1] = np.abs(weights[0]) + 1, 0
    given = ops.parameter([2, 3, width] if tokens else [2, width], np.float32)
    return Model([ops.matmul(given, ops.constant(weights), False, True)], [given]), weights


def kinds(graph: Any) -> set[str]:
    return {
        str(node.get_element_type().get_type_name()) for node in graph.get_ops() if not node.input_values()
    }


def test_weights_stay_within_half_a_step_of_their_row() -> None:
    from openvino import Core

    graph, weights = product(2 * WIDTH)
    eight_bits.compress(graph)
    assert kinds(graph) == {"u8", "f32"}
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    compiled = Core().compile_model(graph, "CPU", exact)
    eye = np.zeros((2, 3, 2 * WIDTH), np.float32)
    found = np.empty_like(weights)
    for column in range(2 * WIDTH):
        eye[0, 0] = np.eye(2 * WIDTH, dtype=np.float32)[column]
        found[:, column] = compiled(eye)[0][0, 0]
    step = (weights.max(axis=1).clip(min=0) - weights.min(axis=1).clip(max=0)) / 255
    assert (np.abs(found - weights).max(axis=1) <= 1.01 * step + 1e-6).all()
    assert np.abs(found - weights).mean() < 0.3 * step.mean()
    assert np.array_equal(found[1], np.zeros(2 * WIDTH))


@pytest.mark.parametrize(("width", "tokens"), [(WIDTH, False), (WIDTH + 32, True)])
def test_what_would_not_gain_stays_as_it_is(width: int, tokens: bool) -> None:
    graph, _ = product(width, tokens=tokens)
    eight_bits.compress(graph)
    assert "u8" not in kinds(graph)


def evaluation(prior: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(4, 16, 16, 16, generator=generator), torch.rand(4, generator=generator)
    return guided(prior, x, t, prior.embed(["a red cube"] * 4), prior.embed([""] * 4), 8.0)


@needs_vnni
def test_an_embedded_model_is_little_less_exact_and_has_the_same_bytes_with_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path))
    monkeypatch.setattr(engine, "usable", lambda: 2)
    before, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    exact = evaluation(load_prior("tiny-sd3", dtype=torch.float32, engine="torch"))
    try:
        for eight, threads in ((False, 1), (True, 1), (True, 2)):
            monkeypatch.setattr(converted, "EIGHT_BITS", eight)
            prior: Any = load_prior("tiny-sd3", dtype=torch.bfloat16, engine="openvino")
            torch.set_num_threads(1)
            prior.embed(["a red cube", ""])  # torch's text encoder does depend on the threads.
            torch.set_num_threads(threads)
            found[eight, threads] = evaluation(prior)
            assert engine.used(prior).endswith(", 8 bits") == eight
    finally:
        torch.set_num_threads(before)
    error = {
        key: float((out - exact).square().mean().sqrt() / exact.square().mean().sqrt())
        for key, out in found.items()
    }
    assert 0.005 < error[False, 1] < 0.035
    assert error[False, 1] < error[True, 1] < 0.065
    assert torch.equal(found[True, 1], found[True, 2])
    assert len(list((tmp_path / "networks").iterdir())) == 2, "each has a graph of its own"


def test_parts_of_a_batch_are_of_one_size() -> None:
    assert [converted.streams(batch, threads) for batch, threads in ((8, 1), (8, 2), (3, 2), (8, 3), (2, 16), (6, 4))] == [
        1, 2, 1, 2, 2, 3,
    ]  # fmt: skip
