"""The student: starts as its prior, learns images and cameras, resumes bit by bit, and leaves the prior as it found it."""

from __future__ import annotations

import gc
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rfgs.distill.gradients import Skipped
from rfgs.errors import UserError
from rfgs.guidance import Counted, GuidanceConfig, Views, make_guide
from rfgs.guidance.lora import Student
from rfgs.render.cameras import orbit
from tests.guidance.analytic import GaussianPrior
from tests.guidance.networks import NetworkPrior

FAMILIES = pytest.mark.parametrize("family", ["sd3", "unet"])
GUIDANCE = {"sd3": "rfds-vsd", "unet": "vsd"}
CAMERAS = torch.linalg.inv(orbit([0, 120], 20, 3.0, 40, 8, 8).viewmats)


def question(family: str) -> tuple[NetworkPrior, Tensor, Tensor, object]:
    prior = NetworkPrior(family)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return prior, x, torch.tensor([0.3, 0.8]), prior.embed(["a", "cat"])


def student_of(prior, seed: int = 0, rank: int = 2) -> Student:
    return Student(prior, rank=rank, generator=torch.Generator().manual_seed(seed))


@FAMILIES
def test_it_starts_as_its_prior_and_leaves_it_as_it_was(family: str) -> None:
    prior, x, t, text = question(family)
    names, before = list(prior.network.state_dict()), prior.predict(x, t, text)
    student = student_of(prior)
    assert torch.equal(student.predict(x, t, text, CAMERAS), before)
    assert torch.equal(student.predict(x, t, text, None), before)
    for _ in range(3):
        student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-2)
    assert not torch.equal(student.predict(x, t, text, CAMERAS), before)
    assert torch.equal(prior.predict(x, t, text), before)  # The prior itself never learns.
    del student
    gc.collect()
    assert list(prior.network.state_dict()) == names
    assert torch.equal(prior.predict(x, t, text), before)
    assert not any(parameter.requires_grad for parameter in prior.network.parameters())


@FAMILIES
def test_it_learns_what_depends_on_image_text_and_camera(family: str) -> None:
    prior, x, t, text = question(family)
    student = student_of(prior)
    same_x, same_t, same_text = x[:1].repeat(2, 1, 1, 1), t[:1].repeat(2), text[[0, 0]]
    target = torch.stack([torch.full((4, 8, 8), 0.5), torch.full((4, 8, 8), -0.5)])
    losses = [student.learn(same_x, same_t, same_text, CAMERAS, target, 5e-2).item() for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    first, second = student.predict(same_x, same_t, same_text, CAMERAS).mean((1, 2, 3)).tolist()
    assert first > 0.1 and second < -0.1  # All that differs is the camera.


def test_its_step_is_adamw_on_the_mean_squared_error() -> None:
    prior, x, t, text = question("sd3")
    student = student_of(prior)
    target = torch.ones_like(x)
    with torch.enable_grad(), student._awake(CAMERAS):
        ((prior.predict(x, t, text) - target) ** 2).mean().backward()
    name, factor = next((name, p) for name, p in student._lora.items() if "lora_B" in name)
    slope = factor.grad.clone()
    student._optimizer.zero_grad()
    loss = student.learn(x, t, text, CAMERAS, target, 1e-3)
    assert loss.item() == pytest.approx((prior.predict(x, t, text) - target).square().mean().item())
    # From zero, AdamW's first step is the learning rate along the sign of the gradient.
    torch.testing.assert_close(factor.detach(), -1e-3 * slope.sign(), rtol=1e-3, atol=1e-9)
    # The optimizer's first moment holds 0.1 of the gradient: of the mean, not of the sum that went back.
    torch.testing.assert_close(
        student._optimizer.state[factor]["exp_avg"], 0.1 * slope, rtol=1e-4, atol=1e-12
    )
    assert name.endswith("lora_B.weight")


def test_its_optimizer_and_its_start_are_what_they_are_said_to_be() -> None:
    """The loop's own Adam, at the rate it is told; first factors of spread 1 / rank, as peft's "gaussian", second ones of 0."""
    prior, x, t, text = question("sd3")
    student = student_of(prior, rank=8)
    start = student.state()["lora"]
    first = torch.cat([value.flatten() for name, value in start.items() if "lora_A" in name])
    assert abs(first.mean()) < 0.01 and first.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert all(not value.any() for name, value in start.items() if "lora_B" in name)
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 3e-3)
    (group,) = student.state()["optimizer"]["param_groups"]
    assert (group["lr"], group["betas"], group["eps"]) == (3e-3, (0.9, 0.99), 1e-15)


@FAMILIES
def test_it_resumes_bit_by_bit(family: str) -> None:
    prior, x, t, text = question(family)
    whole = student_of(prior)
    for step in range(4):
        if step == 2:
            state = whole.state()
        whole.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    resumed = student_of(NetworkPrior(family), seed=99)
    resumed.load(state)
    for _ in range(2):
        resumed.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    assert torch.equal(resumed.predict(x, t, text, CAMERAS), whole.predict(x, t, text, CAMERAS))
    for name, value in whole.state()["lora"].items():
        assert torch.equal(value, resumed.state()["lora"][name])


def test_a_state_is_a_copy_that_torch_saves_as_plain_data(tmp_path) -> None:
    prior, x, t, text = question("sd3")
    student = student_of(prior)
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    state = student.state()
    torch.save(state, tmp_path / "state.pt")
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    for name, value in read["lora"].items():
        assert torch.equal(value, state["lora"][name])
    assert any(not torch.equal(value, student.state()["lora"][name]) for name, value in read["lora"].items())


@FAMILIES
def test_a_network_in_half_precision_keeps_its_own_and_the_student_learns_in_float32(family: str) -> None:
    prior, x, t, text = question(family)
    prior.network.to(torch.bfloat16)
    before = prior.predict(x, t, text)
    student = student_of(prior)
    assert torch.equal(student.predict(x, t, text, CAMERAS), before)
    losses = [student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-2).item() for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]
    state = student.state()
    assert {value.dtype for value in [*state["lora"].values(), *state["camera"].values()]} == {torch.float32}
    assert torch.equal(prior.predict(x, t, text), before) and before.isfinite().all()


@FAMILIES
def test_a_large_network_computes_activations_anew_and_learns_the_same(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []
    for large in (10**12, 0):
        monkeypatch.setattr("rfgs.guidance.lora.LARGE", large)
        prior, x, t, text = question(family)
        student = student_of(prior)
        assert prior.network.is_gradient_checkpointing == (large == 0)
        student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-2)
        learned.append(student.predict(x, t, text, CAMERAS))
        del student
        gc.collect()
        assert not prior.network.is_gradient_checkpointing
    torch.testing.assert_close(*learned, rtol=1e-4, atol=1e-5)


def test_two_students_of_one_prior_do_not_mix() -> None:
    prior, x, t, text = question("sd3")
    one, two = student_of(prior, 1), student_of(prior, 2)
    for _ in range(3):
        one.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-2)
    assert torch.equal(two.predict(x, t, text, CAMERAS), prior.predict(x, t, text))
    learned = one.predict(x, t, text, CAMERAS)
    del two
    gc.collect()
    assert torch.equal(one.predict(x, t, text, CAMERAS), learned)


def test_a_gradient_that_overflows_is_skipped() -> None:
    prior, x, t, text = question("sd3")
    student = student_of(prior)
    student.learn(x, t, text, None, torch.full_like(x, float("inf")), 1e-2)
    assert torch.equal(student.predict(x, t, text, None), prior.predict(x, t, text))


def test_one_entry_that_overflows_keeps_nobody_from_learning_the_rest() -> None:
    prior, x, t, text = question("sd3")
    target = torch.ones_like(x)
    learned = []
    for bad in (None, float("inf"), float("nan")):
        student, skipped = student_of(prior), Skipped(x.device)
        for step in range(3):
            spoiled = target.clone()
            if step == 1 and bad is not None:
                spoiled[0, 2, 3, 4] = bad
            student.learn(x, t, text, None, spoiled, 1e-2, skipped.finite)
        assert int(skipped.count) == (0 if bad is None else 1)
        learned.append(student.predict(x, t, text, None))
    clean, *others = learned
    for other in others:
        assert 0 < (other - clean).norm() < 0.05 * (clean - prior.predict(x, t, text)).norm()


@FAMILIES
def test_guides_train_it_count_it_and_resume(family: str) -> None:
    config = GuidanceConfig(guidance_scale=5.0, own={"lora_rank": 3, "lr_lora": 1e-3})

    def step(guide, generator) -> Tensor:
        x = torch.full((2, 4, 8, 8), 0.3, requires_grad=True)
        prior = guide.prior
        views = Views(
            x,
            prior.embed(["a cat", "a dog, too"]),
            prior.embed(["", ""]),
            torch.tensor([0.4, 0.6]),
            torch.randn(2, 4, 8, 8, generator=generator),
            plain=prior.embed(["a", "a"]),
            generator=generator,
            cameras=CAMERAS,
        )
        guide(views, config).loss.backward()
        return x.grad

    def started(seed: int) -> tuple:
        return make_guide(GUIDANCE[family], Counted(NetworkPrior(family))), torch.Generator().manual_seed(
            seed
        )

    guide, generator = started(0)
    first = step(guide, generator)
    # Two samples: with and without text, the student, and its training, which alone goes back.
    assert guide.prior.take() == {"forward": 8, "backward": 2}
    state, drawn = guide.state(), generator.get_state()
    assert state["rank"] == 3 and state["optimizer"]["state"]
    second = step(guide, generator)
    assert not torch.equal(first, second)
    resumed, generator = started(7)
    generator.set_state(drawn)
    resumed.load(state)
    assert torch.equal(step(resumed, generator), second)


@FAMILIES
def test_at_first_only_guidance_moves_the_images(family: str) -> None:
    """A student that still is its prior takes away the prior's own direction: what remains is (s - 1)(text - null)."""
    prior, x, t, text = question(family)
    null = prior.embed(["", ""])
    guide = make_guide(GUIDANCE[family], prior)
    x.requires_grad_()
    e = torch.zeros_like(x)
    # The student is asked about the plain prompt, which here is the views' own.
    views = Views(x, text, null, t, e, plain=text, generator=torch.Generator().manual_seed(0))
    guide(views, GuidanceConfig(guidance_scale=3.0)).loss.backward()
    if family == "sd3":
        x_t, weight = (1 - t)[:, None, None, None] * x.detach(), 1
    else:
        alpha, sigma = (share[:, None, None, None] for share in prior.alpha_sigma(t))
        x_t, weight = alpha * x.detach(), sigma.square()
    difference = 2 * (prior.predict(x_t, t, text) - prior.predict(x_t, t, null))
    torch.testing.assert_close(x.grad, weight * difference / 2, rtol=1e-3, atol=1e-5)


@FAMILIES
def test_a_tenth_of_the_training_is_without_a_camera_and_all_of_it_at_all_times(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProlificDreamer's and threestudio's; the student has to know what views look like from anywhere, too."""
    taught: list[tuple] = []

    def learn(self: Student, *lesson) -> Tensor:
        taught.append(lesson)
        return torch.zeros(())

    monkeypatch.setattr(Student, "learn", learn)
    prior, x, t, text = question(family)
    plain = prior.embed(["a", "a"])
    guide = make_guide(GUIDANCE[family], prior)
    views = Views(x, text, text, t, torch.zeros_like(x), plain, torch.Generator().manual_seed(0), CAMERAS)
    guide(views, GuidanceConfig(own={"lora_steps": 2000, "lr_lora": 0.25}))
    assert len(taught) == 2000
    cameras = [lesson[3] for lesson in taught]
    assert 0.08 < sum(one is None for one in cameras) / 2000 < 0.12
    assert all(one is None or torch.equal(one, CAMERAS) for one in cameras)
    times = torch.stack([lesson[1] for lesson in taught])
    assert times.min() < 0.01 and times.max() > 0.99 and abs(times.mean() - 0.5) < 0.02
    assert {lesson[5] for lesson in taught} == {0.25}
    # With the prompt alone, without the views' words, which the prior gets.
    assert all(torch.equal(lesson[2].tokens, plain.tokens) for lesson in taught)


def test_priors_that_cannot_be_adapted_and_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="gaussian: has no network that a LoRA can be trained on"):
        student_of(GaussianPrior())
    with pytest.raises(UserError, match="LoRA rank 0: has to be at least 1"):
        student_of(NetworkPrior("sd3"), rank=0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="peft is not installed; install it with `pip install peft`"):
        student_of(NetworkPrior("sd3"))


def test_the_model_that_ships_can_be_studied() -> None:
    from rfgs.priors import load_prior

    prior = Counted(load_prior("tiny-sd3"))
    side = 2 * prior.network.config.patch_size
    x = torch.zeros(2, prior.network.config.in_channels, side, side, requires_grad=True)
    text, null = prior.embed(["a red cube, front view", "a red cube, back view"]), prior.embed(["", ""])
    plain = prior.embed(["a red cube", "a red cube"])
    generator = torch.Generator().manual_seed(0)
    views = Views(x, text, null, torch.tensor([0.3, 0.7]), torch.ones_like(x), plain, generator, CAMERAS)
    guide = make_guide("rfds-vsd", prior)
    assert guide(views, GuidanceConfig()).loss.isfinite()
    assert prior.take() == {"forward": 8, "backward": 2}
    learned = guide.state()["lora"]
    # Text and image tokens have projections of their own, and both are trained.
    for projection in ("to_q", "to_out.0", "add_v_proj", "to_add_out"):
        factors = [value for name, value in learned.items() if f"{projection}.lora_B" in name]
        assert factors and any(factor.abs().max() > 0 for factor in factors)


@FAMILIES
def test_views_that_are_evaluated_one_by_one_keep_their_own_cameras(family: str) -> None:
    prior, x, t, text = question(family)
    student = Student(prior, rank=2, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-2)
    whole = student.predict(x, t, text, CAMERAS)
    prior.max_batch = 1
    torch.testing.assert_close(student.predict(x, t, text, CAMERAS), whole, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(student.predict(x, t, text, CAMERAS.flip(0)), whole, atol=1e-4)


class Looks(TorchDispatchMode):
    """Counts numbers that are asked of tensors: on a GPU each would wait for all work before it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_lesson_looks_at_nothing_and_one_that_overflows_changes_nothing() -> None:
    prior, x, t, text = question("sd3")
    student = student_of(prior)
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    with Looks() as looks:
        student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    assert looks.count == 0
    before = student.state()
    # Passed on, as what overflows on its way back through the network.
    student.learn(x, t, text, CAMERAS, torch.full_like(x, float("inf")), 1e-3, lambda gradient: gradient)
    after = student.state()
    assert all(torch.equal(value, after["lora"][name]) for name, value in before["lora"].items())
    for key, moments in before["optimizer"]["state"].items():
        assert all(
            torch.equal(value, after["optimizer"]["state"][key][name]) for name, value in moments.items()
        )
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    assert not all(torch.equal(value, student._lora[name]) for name, value in before["lora"].items())


def test_a_student_of_an_earlier_version_goes_on_without_looking() -> None:
    prior, x, t, text = question("sd3")
    student = student_of(prior)
    student.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    state = student.state()
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = None
    resumed = student_of(NetworkPrior("sd3"), seed=9)
    resumed.load(state)
    with Looks() as looks:
        resumed.learn(x, t, text, CAMERAS, torch.ones_like(x), 1e-3)
    assert looks.count == 0
