"""OpenVINO in torch's place: the same results, for every family and from the disk, and torch wherever it does not do."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import signal
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.guidance.lora import Student
from rfgs.models import machine
from rfgs.priors import engine, load_prior
from tests.priors.layouts import flux, sd_schedule, stable_diffusion, stable_diffusion_3

needs_openvino = pytest.mark.skipif(
    machine.version("openvino") is None, reason="OpenVINO is not installed (pip install 'rfgs[openvino]')"
)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=False)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, sd3: Path) -> tuple[Path, Tensor]:
    """A cache in which `sd3` is, converted for three latents, and what it says to `evaluation`. To be copied."""
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RFGS_CACHE", str(place))
        return place, evaluation(load_prior(sd3, engine="openvino"))


def evaluation(prior: Any, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    channels = 16 if "Flux" in type(prior).__name__ else prior.network.config.in_channels
    x = torch.randn(batch, channels, 8, 8, generator=generator)
    t = torch.rand(batch, generator=generator)
    text = prior.embed(["red cube", "a blue", "a"][:batch])
    with torch.no_grad():
        return prior.predict(x, t, text)


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One of each family, by its name."""
    from diffusers import DDIMScheduler

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sd = stable_diffusion(folder / "sd", sd_schedule(DDIMScheduler))
    return {
        "sd3": str(stable_diffusion_3(folder / "sd3", t5=False)),
        "sd": str(sd),
        "instaflow": f"instaflow:{sd}",
        "flux": str(flux(folder / "flux", dev=True)),
    }


@needs_openvino
@pytest.mark.parametrize("family", ["sd3", "sd", "instaflow", "flux"])
def test_every_family_evaluates_to_what_torch_does(family: str, models: dict[str, str]) -> None:
    plain, fast = (load_prior(models[family], None, engine=kind) for kind in ("torch", "openvino"))
    for batch in (3, 1):
        assert difference(evaluation(fast, batch), evaluation(plain, batch)) < 1e-5
    assert engine.used(fast).startswith("openvino 2") and engine.used(plain) == "torch"


@needs_openvino
@pytest.mark.parametrize("model", ["tiny-sd3", "tiny-sd"])
def test_embedded_models(model: str) -> None:
    plain, fast = (load_prior(model, None, engine=kind) for kind in ("torch", "openvino"))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, plain.network.config.in_channels, 16, 16, generator=generator)
    text = plain.embed(["a red cube", ""])
    out = []
    for prior in (fast, plain):
        evaluate = torch.no_grad()(prior.predict)
        out.append(evaluate(x, torch.tensor([0.9, 0.1]), text))
    assert difference(*out) < 1e-5 and engine.used(fast) != "torch"


@needs_openvino
def test_the_same_bytes_with_any_number_of_threads_and_from_the_disk(
    sd3: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, before = set(), torch.get_num_threads()
    monkeypatch.setattr(engine, "usable", lambda: 4)
    try:
        for threads in (1, 2, 2, 4):
            torch.set_num_threads(threads)
            # The text encoder is torch's, which does depend on the threads.
            torch.set_num_threads(1)
            prior = load_prior(sd3, engine="openvino")
            prior.embed(["red cube", "a blue", "a"])
            torch.set_num_threads(threads)
            # Whoever asked first for another size changes nothing.
            out = [evaluation(prior, batch) for batch in ((1, 3) if threads == 4 else (3,))][-1]
            found.add(hashlib.sha256(out.numpy().tobytes()).hexdigest())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@needs_openvino
def test_it_is_converted_once(
    sd3: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluation(load_prior(sd3, engine="openvino"))
    assert capsys.readouterr().err.count("converting the model") == 1
    monkeypatch.setattr("rfgs.priors.converted._convert", None)
    fast = load_prior(sd3, engine="openvino")
    assert torch.equal(evaluation(fast), first)
    evaluation(fast, 2)  # Another size is compiled from the same graph.
    assert engine.used(fast) != "torch" and "converting" not in capsys.readouterr().err
    other = load_prior(sd3, engine="torch")
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    engine.attach(other.network, "openvino")
    evaluation(other)
    assert "NoneType" in engine.used(other)  # It wanted to convert: these are other weights.


@needs_openvino
def test_signals_are_handled_after_networks_are_gone(sd3: Path) -> None:
    """Each OpenVINO core frees the stack that Python's handlers run on; without its being one core, this crashes."""
    priors = [load_prior(sd3, engine="openvino") for _ in range(2)]
    for prior in priors:
        evaluation(prior)
    del prior
    while priors:
        priors.pop(0)
        gc.collect()
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]


@needs_openvino
@pytest.mark.parametrize("damage", ["network.bin", "network.xml", "network.json", "*.blob"])
def test_what_is_damaged_on_disk_is_made_anew(
    damage: str, sd3: Path, kept: tuple[Path, Tensor], own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = kept[1]
    shutil.copytree(kept[0], own_cache)
    assert list(own_cache.glob(f"networks/*/{damage}"))
    for file in own_cache.glob(f"networks/*/{damage}"):
        file.write_bytes(file.read_bytes()[:-7])
    fast = load_prior(sd3, engine="openvino")
    assert torch.equal(evaluation(fast), first) and engine.used(fast) != "torch"
    assert torch.equal(evaluation(load_prior(sd3, engine="openvino")), first)
    assert capsys.readouterr().err.count("converting the model") == (0 if damage == "*.blob" else 1)


@needs_openvino
def test_without_a_place_to_write(sd3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "file"))
    fast = load_prior(sd3, engine="openvino")
    assert difference(evaluation(fast), evaluation(load_prior(sd3))) < 1e-5
    assert engine.used(fast) != "torch"


@needs_openvino
def test_old_networks_make_room(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfgs.priors.converted.KEPT", 1)
    for seed in range(2):
        torch.manual_seed(seed)
        evaluation(load_prior(stable_diffusion_3(tmp_path / str(seed), t5=False), engine="openvino"))
    assert len(list((own_cache / "networks").iterdir())) == 1


@needs_openvino
def test_gradients_and_loras_keep_torch(sd3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = load_prior(sd3), load_prior(sd3, engine="openvino")
    expected = evaluation(plain)
    x = torch.randn(1, fast.network.config.in_channels, 8, 8, requires_grad=True)
    fast.predict(x, torch.tensor([0.5]), fast.embed(["a"])).sum().backward()
    assert x.grad is not None and x.grad.any()
    student = Student(fast, rank=2, generator=torch.Generator().manual_seed(0))
    assert difference(evaluation(fast), expected) < 1e-5  # It is converted with a sleeping LoRA.
    counted = fast.network.forward._converted._programs.values()
    monkeypatch.setattr("rfgs.priors.converted.Program.__call__", None)
    for name, value in student._lora.items():
        if "lora_B" in name:
            value.data.fill_(0.1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, fast.network.config.in_channels, 8, 8, generator=generator)
    t, text = torch.tensor([0.2, 0.9]), fast.embed(["a", "red"])
    assert difference(student.predict(x, t, text, None), plain.predict(x, t, text)) > 1e-3
    assert len(counted) == 1 and engine.used(fast) != "torch"


@needs_openvino
def test_changed_weights_and_copies_keep_torch(sd3: Path) -> None:
    fast = load_prior(sd3, engine="openvino")
    first, copied = evaluation(fast), deepcopy(fast.network)
    assert not isinstance(copied.forward, engine.Forward)
    with torch.no_grad():
        fast.network.proj_out.bias.add_(1)
    assert difference(evaluation(fast), first) > 1e-2
    fast.network.to(torch.bfloat16)
    fast.dtype = torch.bfloat16
    fast.predict(torch.randn(1, fast.network.config.in_channels, 8, 8), torch.tensor([0.5]), fast.embed(["a"]).to(
        torch.device("cpu"), torch.bfloat16))  # fmt: skip


@needs_openvino
def test_a_network_in_bfloat16(sd3: Path) -> None:
    plain, fast = load_prior(sd3), load_prior(sd3, dtype=torch.bfloat16, engine="openvino")
    assert difference(evaluation(fast), evaluation(plain)) < 0.05
    assert engine.used(fast) != "torch"


@needs_openvino
def test_latents_that_get_almost_no_output_are_no_reason_for_torch(own_cache: Path) -> None:
    """As `rfgs warmup` evaluates: of zeros bfloat16 leaves 0.08 of what is left, OpenVINO's as much as torch's."""
    fast = load_prior("tiny-sd3", dtype=torch.bfloat16, engine="openvino")
    with torch.no_grad():
        fast.predict(
            torch.zeros(2, fast.network.config.in_channels, 8, 8),
            torch.tensor([0.1, 0.5]),
            fast.embed(["", "a red cube"]),
        )
    assert engine.used(fast) != "torch" and "torch (" not in engine.used(fast)


@needs_openvino
def test_a_wrong_result_is_noticed(
    sd3: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rfgs.priors.compiled import Program

    right = Program.__call__
    monkeypatch.setattr(Program, "__call__", lambda self, call: right(self, call) * 1.01)
    fast = load_prior(sd3, engine="openvino")
    for _ in range(2):
        assert torch.equal(evaluation(fast), evaluation(load_prior(sd3)))
    assert "off by 0.01" in engine.used(fast) and not list(own_cache.glob("networks/*"))
    assert capsys.readouterr().err.count("going on with torch") == 1


def test_any_failure_ends_in_torch_and_one_line(
    sd3: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken installation: the library is listed, and cannot be imported."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engine, "AUTO", True)
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: "1.0" if name == "openvino" else real(name))
    prior = load_prior(sd3)
    for _ in range(2):
        assert torch.equal(evaluation(prior), evaluation(load_prior(sd3, engine="torch")))
    assert engine.used(prior).startswith("torch (import of openvino")
    assert capsys.readouterr().err.count("going on with torch") == 1


def test_it_has_to_be_installed_and_to_fit(sd3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "AUTO", True)
    monkeypatch.setattr(engine.machine, "version", lambda name: None)
    assert engine.used(load_prior(sd3)) == "torch"
    with pytest.raises(UserError, match="not installed; install it with .pip install 'rfgs.openvino"):
        load_prior(sd3, engine="openvino")
    monkeypatch.setattr(engine.machine, "version", lambda name: "2026.0")
    monkeypatch.setattr(engine, "LARGEST", 0)
    assert engine.used(load_prior(sd3)) == "torch"
    with pytest.raises(UserError, match="up to 0 GiB"):
        load_prior(sd3, engine="openvino")
