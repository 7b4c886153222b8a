"""Which precision a run computes in, and that the choice hardly turns what it follows."""

from __future__ import annotations

import pytest
import torch

from rfgs.guidance.rfds_rev import rfds_rev
from rfgs.priors import load_prior
from rfgs.priors.fit import distillation_dtype, loading
from rfgs.runs.job import Loading


@pytest.mark.parametrize(
    ("device", "can", "dtype"),
    [
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ("cpu", {"avx512_f": True}, None),
        ("cuda", {"avx512_bf16": True}, None),
    ],
)
def test_distillation_takes_bfloat16_where_the_cpu_computes_in_it(
    device: str, can: dict, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert distillation_dtype(device) == dtype
    assert loading(Loading(), distills_on=device)["dtype"] == dtype
    assert loading(Loading())["dtype"] is None  # Inversion is exact in float32.
    assert loading(Loading(dtype="float32"), distills_on=device)["dtype"] == torch.float32


def test_an_older_torch_that_cannot_tell_leaves_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert distillation_dtype("cpu") is None


def test_rounding_turns_a_gradient_far_less_than_other_noise_does() -> None:
    image = torch.full((2, 3, 128, 128), 0.5)
    image[:, :, 40:90, 40:90] = torch.tensor([0.7, 0.2, 0.2])[:, None, None]
    gradients = []
    for dtype, seed in ((torch.float32, 0), (torch.bfloat16, 0), (torch.float32, 1)):
        prior = load_prior("tiny-sd3", dtype=dtype)
        x = prior.encode(image).float().detach().requires_grad_()
        rfds_rev(
            prior,
            x,
            prior.embed(["a red cube, front view"] * 2),
            prior.embed([""] * 2),
            t=torch.tensor([0.3, 0.7]),
            e=torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)),
            guidance_scale=4,
        ).loss.backward()
        gradients.append(x.grad.flatten())
    exact, rounded, other = gradients
    assert (
        torch.cosine_similarity(exact, rounded, dim=0)
        > 0.99
        > torch.cosine_similarity(exact, other, dim=0) + 0.02
    )
