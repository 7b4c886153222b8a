"""The figures of `rfgs.models.memory` against the real architectures on the meta device, and what is planned from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rfgs.guidance.lora import _camera_mlp, _last_linear, time_embedding
from rfgs.measure import cards
from rfgs.measure.architectures import NETWORKS, build, parts
from rfgs.measure.footprint import add_lora, decoding, encoding, evaluation, peak, training
from rfgs.models import memory
from rfgs.models.catalog import BACKENDS
from rfgs.models.memory import GIB, Load, estimate, plan

PUBLISHED = {
    # Model cards and papers: billions of parameters of the network, as many digits as they give. The fixed table of
    # positions counts, which is in the files: 384 x 384 x 1536 numbers in SD3.5 medium.
    "sd3": "2",
    "sd35-medium": "2.5",
    "sd35-large": "8.1",
    "sd15": "0.860",
    "instaflow": "0.860",
    "sd21": "0.866",
    "flux-dev": "12",
    "flux-schnell": "12",
    "flux2-klein": "4",
    "z-image": "6",
}


def count(name: str, part: str) -> int:
    return size_of(build(name, part))


def size_of(module: torch.nn.Module, *, recurse: bool = True) -> int:
    """Numbers in parameters and buffers, but not the token positions that are counted again at each start."""
    tensors = [*module.parameters(recurse), *module.buffers(recurse)]
    return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters(name: str) -> None:
    footprint = memory.FOOTPRINTS[name]
    network = build(name, "network")
    assert footprint.network == size_of(network)
    # What an offloaded network leaves on the GPU: its largest layer, and what is no parameter.
    largest = max(sum(p.numel() for p in module.parameters(recurse=False)) for module in network.modules())
    assert largest + sum(buffer.numel() for buffer in network.buffers()) <= memory.OFFLOADED
    assert footprint.clip == sum(count(name, part) for part in parts(name) if part.startswith("clip"))
    assert footprint.t5 == (count(name, "t5") if "t5" in parts(name) else 0)
    qwen = build(name, "qwen").parameters() if "qwen" in parts(name) else ()
    assert footprint.qwen == sum(parameter.numel() for parameter in qwen)
    assert count(name, "autoencoder") == pytest.approx(memory.AUTOENCODER, rel=0.003)
    if name in PUBLISHED:
        digits = len(PUBLISHED[name].partition(".")[2])
        assert f"{footprint.network / 1e9:.{digits}f}" == PUBLISHED[name]
    embedding = time_embedding(network)
    assert embedding is not None
    camera = _camera_mlp(_last_linear(embedding).out_features, torch.Generator())
    assert footprint.camera == size_of(camera)
    assert footprint.lora == add_lora(network, rank=1)


def test_every_big_backend_has_a_footprint() -> None:
    assert set(memory.FOOTPRINTS) == {backend.name for backend in BACKENDS if backend.hub_id}


# One of each class, and the widest.
@pytest.mark.parametrize("name", ["sd3", "sd35-large", "sd15", "flux-dev"])
def test_an_evaluation(name: str) -> None:
    assert evaluation(name, batch=2) / 2 == pytest.approx(memory.FOOTPRINTS[name].sample, rel=0.03)


@pytest.mark.parametrize("name", ["sd3", "sd15"])
def test_a_training_step_of_a_lora(name: str) -> None:
    assert training(name, batch=2) / 2 == pytest.approx(memory.FOOTPRINTS[name].training, rel=0.03)


def test_the_encoder() -> None:
    assert encoding("sd3", views=2, slice_views=False) == pytest.approx(2 * memory.ENCODE_VIEW, rel=0.02)
    first, third = (encoding("sd3", views=views, slice_views=True) for views in (1, 3))
    assert first == pytest.approx(memory.ENCODE_FIRST, rel=0.02)
    assert third == pytest.approx(memory.ENCODE_FIRST + 2 * memory.ENCODE_NEXT, rel=0.03)


def test_peak_counts_what_lives_at_once() -> None:
    kept = torch.empty(1000, device="meta")

    def work() -> torch.Tensor:
        a = kept + 1  # 4000 bytes, and the sum another 4000; then the first is freed before the third comes.
        b = a * 2
        del a
        return b.view(10, 100).t() + 1

    assert peak(work) == 8000


def test_the_plan_of_record() -> None:
    """RFDS-Rev with SD3 on 4 views of 512 pixels, for which the authors' NeRF wants more than 46 GB."""
    assert estimate("sd3", views=4, slice_views=True).total < 9 * GIB
    found = plan("sd3", 16 * GIB)
    assert found is not None and found.views == 4 and found.slice_views


def test_what_a_lora_takes() -> None:
    """Four float32 numbers for each of its parameters, and in SD3 more activations than an evaluation for guidance."""
    plain, lora = estimate("sd3", views=4), estimate("sd3", views=4, load=Load(lora_rank=4))
    assert lora.weights - plain.weights == 16 * (4 * 586_752 + 16 * 1536 + 1536 + 1536 * 1536 + 1536)
    assert lora.network == 4 * memory.FOOTPRINTS["sd3"].training > plain.network
    assert lora.encoder == plain.encoder
    more = estimate("sd3", views=4, load=Load(lora_rank=8)).weights - lora.weights
    assert more == 16 * 4 * 586_752
    beside = memory.beside_the_encoder("sd3", views=4, load=Load(lora_rank=4))
    assert beside == pytest.approx(1.1 * (lora.network + lora.weights - plain.weights))


def test_views_one_by_one_are_evaluated_one_by_one_and_learned_from_together() -> None:
    whole, sliced = (estimate("sd3", views=4, slice_views=one_by_one) for one_by_one in (False, True))
    assert whole.network == 4 * sliced.network == 8 * memory.FOOTPRINTS["sd3"].sample
    lora = estimate("sd3", views=4, slice_views=True, load=Load(lora_rank=4))
    assert lora.network == 4 * memory.FOOTPRINTS["sd3"].training


def test_what_float32_and_offloading_change() -> None:
    plain = estimate("flux-dev", views=1)
    full, offloaded = (
        estimate("flux-dev", views=1, load=load) for load in (Load(full=True), Load(offload=True))
    )
    assert full.weights - plain.weights == 2 * memory.FOOTPRINTS["flux-dev"].network
    assert full.network == 2 * plain.network and full.encoder == plain.encoder
    assert offloaded.weights < GIB < plain.weights and offloaded.network == plain.network


def test_plans_grow_with_the_card() -> None:
    for name in memory.FOOTPRINTS:
        found = [plan(name, size * GIB) for size in memory.CARDS]
        views = [p.views if p else 0 for p in found]
        assert views == sorted(views)
        for size, p in zip(memory.CARDS, found, strict=True):
            assert p is None or p.total <= size * GIB
    whole = estimate("sd3", views=4).total
    assert plan("sd3", 24 * GIB) == memory.Plan(4, False, False, t5=True, total=whole)
    small = plan("sd3", 8 * GIB)
    assert small is not None and small.views == 4 and small.half_encoder and not small.t5
    assert plan("flux-dev", 24 * GIB) is None


def test_the_least_card_is_the_least() -> None:
    for name in memory.FOOTPRINTS:
        least = memory.least(name)
        assert plan(name, least + GIB // 100) is not None and plan(name, least - GIB // 100) is None


def test_a_line_for_the_doctor() -> None:
    too_large = memory.describe("flux-dev", 8 * GIB)
    assert (
        too_large.startswith("does not fit: wants a GPU of 2") and " or --offload, much slower" in too_large
    )
    assert memory.describe("flux-dev", GIB).endswith("GiB at least")
    assert memory.describe("instaflow", 8 * GIB).endswith("4 views per step, encoded one by one")
    assert memory.describe("sd3", 8 * GIB).endswith("4 views per step, encoded one by one in half precision")


@pytest.mark.parametrize("name", cards.tables())
def test_the_tables_in_the_docs(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/base-models.md").read_text(encoding="utf-8")
    assert cards.tables()[name] in page


def test_what_is_to_fit_fits() -> None:
    """Four views of 512 pixels: SD3 on 16 GiB, and a FLUX of 4 bits on 12."""
    sd3 = plan("sd3", 16 * GIB, load=Load(decode=True, samples=4))
    flux = plan(cards.models()["flux-dev, 4 bit"], 12 * GIB, load=Load(decode=True, samples=4))
    assert sd3 and flux and sd3.views == flux.views == 4 and not sd3.half_encoder


def test_a_picture_that_is_decoded() -> None:
    assert decoding("sd3") == pytest.approx(memory.DECODE, rel=0.02)
    plain, live = (estimate("sd3", views=4, load=Load(decode=decode)) for decode in (False, True))
    assert live.total - plain.total == pytest.approx(1.1 * memory.DECODE, abs=2)
    beside = [memory.beside_the_encoder("sd3", views=4, load=Load(decode=decode)) for decode in (False, True)]
    assert beside[1] - beside[0] == pytest.approx(1.1 * memory.DECODE, abs=2)


def test_perp_neg_asks_twice_as_often_unless_one_by_one() -> None:
    for slice_views, times in ((False, 2), (True, 1)):
        plain, more = (
            estimate("sd3", views=4, slice_views=slice_views, load=Load(samples=samples)).network
            for samples in (2, 4)
        )
        assert more == times * plain


def test_a_run_that_moves_latents_keeps_no_way_back() -> None:
    found = estimate("sd3", views=1, load=Load(encode=False, decode=True))
    assert (
        found.encoder == 0 and found.network == memory.DECODE
    )  # Which comes after the evaluation, not beside.
    many = estimate("flux-dev", views=16, load=Load(encode=False, decode=True))
    assert many.network == 2 * 16 * memory.FOOTPRINTS["flux-dev"].sample


def test_on_the_cpu_texts_come_before_the_network() -> None:
    """FLUX in bfloat16: the network alone is the peak; SD3: the text encoders are, which are gone when it comes."""
    flux, sd3 = (memory.FOOTPRINTS[name] for name in ("flux-dev", "sd3"))
    found = memory.on_the_cpu("flux-dev", load=Load(offload=True), device="cuda")
    assert found == memory.PROGRAM + 2 * flux.network + 4 * memory.AUTOENCODER
    found = memory.on_the_cpu("sd3", load=Load(offload=True), device="cuda")
    assert found == memory.PROGRAM + 2 * (sd3.clip + sd3.t5)
    # Weights go straight to a GPU, but for a T5 that does not fit there.
    assert memory.on_the_cpu("flux-dev", device="cuda", gpu=24 * GIB) == memory.PROGRAM
    assert memory.on_the_cpu("flux-dev", device="cuda", gpu=8 * GIB) == memory.PROGRAM + 2 * flux.t5
    assert memory.on_the_cpu("sd3", device="cuda", gpu=8 * GIB, t5=False) == memory.PROGRAM


@pytest.mark.parametrize("name", ["flux2-klein", "z-image"])
def test_on_the_cpu_qwen_is_a_text_encoder_that_cannot_be_left_out(name: str) -> None:
    footprint = memory.FOOTPRINTS[name]
    for t5 in (True, False):
        found = memory.on_the_cpu(name, device="cuda", gpu=8 * GIB, t5=t5)
        assert found == memory.PROGRAM + 2 * footprint.qwen
    found = plan(name, 48 * GIB)
    assert found and found.t5  # By itself, before the network is there.


def test_a_single_file_passes_through_the_cpus_memory() -> None:
    """Its network by itself, or T5 before it: never both."""
    flux = memory.FOOTPRINTS["flux-dev"]
    found = memory.on_the_cpu("flux-dev", device="cuda", gpu=8 * GIB, load=Load(file=True))
    assert found == memory.PROGRAM + 2 * flux.network
    # On the CPU, quantized weights take what the file says.
    plain, small = (memory.on_the_cpu("flux-dev", load=load) for load in (Load(), Load(weights=7 * GIB)))
    assert plain - small == 2 * flux.network - 7 * GIB
