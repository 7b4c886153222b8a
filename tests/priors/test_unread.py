"""Networks that are left unread: the same results, and read as soon as somebody needs them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.lora import Student
from rfgs.models import embedded, machine
from rfgs.priors import autoencoder, engine, load_prior

pytestmark = pytest.mark.skipif(
    machine.version("openvino") is None, reason="OpenVINO is not installed (pip install 'rfgs[openvino]')"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what tiny-sd3 was converted to for two samples."""
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RFGS_CACHE", str(place))
        evaluation(load_prior("tiny-sd3", engine="openvino"))
    return place


@pytest.fixture(autouse=True)
def kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(cache))


def evaluation(prior: Any, batch: int = 2) -> Tensor:
    x = torch.randn(batch, prior.channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return prior.predict(x, torch.full((batch,), 0.5), prior.embed(["a red cube"] * batch))


def test_what_was_converted_before_needs_no_network() -> None:
    unread, read = (load_prior("tiny-sd3", engine="openvino") for _ in range(2))
    assert unread.unread and unread.dtype == torch.float32
    network = read.network
    assert not read.unread and read.network is network
    assert torch.equal(evaluation(unread), evaluation(read))
    assert (
        unread.unread
        and engine.used(unread) == engine.used(read) == f"openvino {machine.version('openvino')}"
    )
    assert (unread.image_size, unread.channels) == (read.image_size, read.network.config.in_channels)


def test_what_needs_it_reads_it() -> None:
    plain = load_prior("tiny-sd3", engine="torch")
    x = torch.randn(2, plain.channels, 16, 16, requires_grad=True)
    for use in (
        lambda prior: evaluation(prior, 3),  # Nobody has evaluated so many before.
        lambda prior: prior.predict(x, torch.full((2,), 0.5), prior.embed(["a"] * 2)),
        lambda prior: Student(prior, rank=1, generator=torch.Generator().manual_seed(0)),
    ):
        prior = load_prior("tiny-sd3", engine="openvino")
        assert prior.unread
        use(prior)
        assert not prior.unread and engine.used(prior).startswith("openvino")
        torch.testing.assert_close(evaluation(prior), evaluation(plain), rtol=1e-3, atol=1e-3)


def test_where_openvino_fails_torch_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = load_prior("tiny-sd3", engine="openvino")
    monkeypatch.setattr("rfgs.priors.converted.Program.__call__", None)
    found = evaluation(prior)
    assert torch.equal(found, evaluation(load_prior("tiny-sd3", engine="torch")))
    assert engine.used(prior).startswith("torch (") and "going on with torch" in capsys.readouterr().err


def test_other_bytes_are_another_network(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedded.folder("tiny-sd3"), folder)
    assert load_prior(folder, engine="openvino").unread
    assert not load_prior(folder, engine="openvino", dtype=torch.bfloat16).unread
    assert not load_prior(folder, engine="torch").unread and not load_prior(folder).unread
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({**weights, "proj_out.bias": weights["proj_out.bias"] + 1}, file)
    changed = load_prior(folder, engine="openvino")
    assert not changed.unread
    del weights["proj_out.bias"]
    save_file(weights, file)
    with pytest.raises(UserError, match=r"transformer/ lacks the weights of proj_out.bias"):
        load_prior(folder, engine="openvino")


def test_pictures_are_encoded_and_decoded_alike() -> None:
    unread, read = (load_prior("tiny-sd3", engine=kind) for kind in ("openvino", "torch"))
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    assert isinstance(unread.autoencoder._module, autoencoder.PlainEncoder)
    for ours, theirs in zip(unread.autoencoder.linear, read.autoencoder.linear, strict=True):
        assert torch.equal(ours, theirs)
    latents = unread.encode(images)
    assert torch.equal(latents, read.encode(images))
    assert isinstance(unread.autoencoder._module, autoencoder.PlainEncoder)
    assert torch.equal(unread.decode(latents), read.decode(latents))
