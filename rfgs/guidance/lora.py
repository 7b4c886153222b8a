"""A student of the images being optimized: the prior's own network with a low-rank adapter and an eye for the camera."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rfgs.errors import UserError
from rfgs.guidance.common import Estimate, Finite, GuidanceConfig, Guide, Views, arguments, finite, own
from rfgs.guidance.share import Share
from rfgs.priors.base import Condition
from rfgs.priors.sending import send
from rfgs.settings import setting

ATTENTION = [
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    "to_qkv_mlp_proj",
]
"""The attention's projections in diffusers' UNets (the first four) and transformers (the last is FLUX.2's, all in one)."""
TIME = ("time_text_embed", "time_embedding", "time_guidance_embed", "t_embedder")
"""What diffusers' networks call their embedding of time, which every block sees."""
CAMERA_DROPPED = 0.1
"""Share of the training steps without a camera (threestudio's VSD)."""
LARGE = 500_000_000
"""Parameters from which a backward pass computes its activations anew, to save memory."""

_numbers = itertools.count()


class Student:
    """Shares the prior's frozen weights, which stay exactly as they are to everybody else.

    The adapter's second factors and the camera embedding's last layer start at zero, so that the student starts as the
    prior without guidance. When the student goes, the network is left as it was found.

    Args:
        prior: offers `network` (`rfgs.priors.base.Trainable`).
        rank: of the adapter, on all of `ATTENTION`.
        generator: CPU generator, for the adapter's first factors and the camera embedding.

    Raises:
        UserError: a prior whose network cannot be adapted, or peft is not installed.
    """

    def __init__(self, prior: Any, *, rank: int, generator: torch.Generator) -> None:
        network = getattr(prior, "network", None)
        embedding = time_embedding(network)
        if network is None or embedding is None or not hasattr(network, "add_adapter"):
            raise UserError(
                f"{prior.name}: has no network that a LoRA can be trained on; take another --guidance"
            )
        if rank < 1:
            raise UserError(f"LoRA rank {rank}: has to be at least 1; try 4")
        try:
            from peft import LoraConfig
        except ImportError as error:
            raise UserError(
                "this guidance trains a LoRA, and peft is not installed; install it with `pip install peft`"
            ) from error
        self.prior, self.rank = prior, rank
        self._network, self._name = network, f"student{next(_numbers)}"
        with warnings.catch_warnings():
            # Two runs may share one prior: a second adapter is meant.
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            adapter = LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION)
            network.add_adapter(adapter, adapter_name=self._name)
        device = next(network.parameters()).device
        self._lora = {
            name.replace(f".{self._name}", ""): parameter
            for name, parameter in network.named_parameters()
            if f".{self._name}." in name
        }
        for name, parameter in self._lora.items():
            # Float32 whatever the network is in: half precision would lose steps of a learning rate this small.
            values = torch.zeros(parameter.shape)
            if "lora_A" in name:
                values.normal_(0, 1 / rank, generator=generator)
            parameter.data = values.to(device)
        width = _last_linear(embedding).out_features
        self._camera_mlp = _camera_mlp(width, generator).to(device)
        self._camera: Tensor | None = None
        self._optimizer = torch.optim.AdamW(
            [*self._lora.values(), *self._camera_mlp.parameters()],
            lr=1e-4,
            betas=(0.9, 0.99),
            eps=1e-15,
            fused=True,
        )
        network.disable_adapters()
        seen = weakref.ref(self)  # A hook that held the student would keep it from ever going.
        hook = embedding.register_forward_hook(lambda module, given, out: _add_camera(seen(), out))
        frugal = sum(parameter.numel() for parameter in network.parameters()) > LARGE
        frugal = frugal and not network.is_gradient_checkpointing
        if frugal:
            network.enable_gradient_checkpointing()
        weakref.finalize(self, _leave, network, self._name, hook, frugal).atexit = False

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition, cameras: Tensor | None) -> Tensor:
        """What the student predicts at x_t [B, c, h, w], without guidance: velocity or noise, as its prior.

        Args:
            cameras: camera-to-world matrices [B, 4, 4], or None.
        """
        predictions, size = [], getattr(self.prior, "max_batch", None) or len(x_t)
        # In the prior's own batches, so that it makes no others of them: each needs its own cameras.
        for start in range(0, len(x_t), size):
            part = slice(start, start + size)
            with self._awake(None if cameras is None else cameras[part]):
                predictions.append(self.prior.predict(x_t[part], t[part], condition[part]))
        return torch.cat(predictions)

    def learn(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: Condition,
        cameras: Tensor | None,
        target: Tensor,
        learning_rate: float,
        finite: Finite = finite,
        share: Share = Share(),  # noqa: B008, it is frozen.
    ) -> Tensor:
        """One AdamW step on mean((prediction - target)^2); returns that loss, 0-d, as it was before the step.

        With a `share`, the mean is over the views of all processes, which take the same step.

        `finite` goes over the gradient by the prediction, so that the rest of it is learned from. A step that overflows all the
        same, on its way back through the network, is skipped.
        """
        with torch.enable_grad(), self._awake(cameras):
            prediction = self.prior.predict(x_t, t, condition)
            prediction.register_hook(finite)
            squares = (prediction - target).square()
            # The sum goes back through the network, the mean would underflow in half precision.
            squares.sum().backward()
        parameters = [*self._lora.values(), *self._camera_mlp.parameters()]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        share.sum(gradients)
        torch._foreach_div_(gradients, squares[0].numel() * share.total(len(squares)))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        # Where any is not finite the fused kernel takes no step, as after a GradScaler, and nothing waits for the GPU.
        largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
        self._optimizer.found_inf = (~largest.isfinite().all()).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return squares.detach().mean()

    def state(self) -> dict[str, Any]:
        """Copies of rank, weights and the optimizer's state."""
        return {
            "rank": self.rank,
            "lora": {name: parameter.detach().clone() for name, parameter in self._lora.items()},
            "camera": {name: value.clone() for name, value in self._camera_mlp.state_dict().items()},
            "optimizer": deepcopy(self._optimizer.state_dict()),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a `state()` of a student of the same prior and rank."""
        with torch.no_grad():
            for name, parameter in self._lora.items():
                parameter.copy_(state["lora"][name])
        self._camera_mlp.load_state_dict(state["camera"])
        kept = state["optimizer"]
        # Checkpoints of earlier versions have another kernel.
        groups = [{**group, "fused": True, "foreach": None} for group in kept["param_groups"]]
        self._optimizer.load_state_dict({**kept, "param_groups": groups})

    @contextmanager
    def _awake(self, cameras: Tensor | None) -> Iterator[None]:
        self._network.set_adapter(self._name)
        self._network.enable_adapters()
        if cameras is not None:
            # The hook takes it from here to the time embedding, which every block of the network sees.
            self._camera = self._camera_mlp(cameras.flatten(1).float())
        try:
            yield
        finally:
            self._camera = None
            self._network.disable_adapters()


def _camera_mlp(width: int, generator: torch.Generator) -> nn.Sequential:
    """16 numbers of a camera to the size of the time embedding (ProlificDreamer's, but starting at zero)."""
    first, last = nn.Linear(16, width), nn.Linear(width, width)
    with torch.no_grad():
        first.weight.normal_(0, 16**-0.5, generator=generator)
        for zero in (first.bias, last.weight, last.bias):
            zero.zero_()
    return nn.Sequential(first, nn.SiLU(), last)


def _add_camera(student: Student | None, embedded: Tensor) -> Tensor:
    if student is None or student._camera is None:
        return embedded
    return embedded + student._camera.to(embedded.dtype)


def _leave(network: Any, name: str, hook: Any, frugal: bool) -> None:
    hook.remove()
    if frugal:
        network.disable_gradient_checkpointing()
    network.delete_adapters(name)
    if not getattr(network, "peft_config", None):  # Newer versions of peft delete it with the last adapter.
        network.unload_lora()


def time_embedding(network: Any) -> nn.Module | None:
    """The part of a diffusers network that embeds the time; None where it is not known."""
    return next((getattr(network, name) for name in TIME if hasattr(network, name)), None)


def _last_linear(embedding: nn.Module) -> nn.Linear:
    return [module for module in embedding.modules() if isinstance(module, nn.Linear)][-1]


@dataclass(frozen=True)
class StudentSettings:
    """Those of the student."""

    lora_rank: int = setting(
        4, "Rank of the LoRA that learns what the views look like; read when it is made.", least=1, most=4096
    )
    lora_steps: int = setting(1, "Its training steps in each step of the run.", least=1, most=1000)
    lr_lora: float = setting(
        1e-4, "Its learning rate, which stays as it is during a run.", above=0, most=1, steer=True
    )


class StudentGuide(Guide):
    """A guidance that compares its prior with a student of the views, which learns from each of them on the way."""

    settings, trains = StudentSettings, True
    judge: ClassVar[Callable[..., Estimate]]
    """The guidance as a function: `vsd` or `rfds_vsd`."""

    def __init__(self, prior: Any) -> None:
        super().__init__(prior)
        self._student: Student | None = None

    def __call__(self, views: Views, config: GuidanceConfig) -> Estimate:
        student = self.student(views, config)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return student.predict(x_t, t, views.plain, views.cameras)

        estimate = self.judge(self.prior, predict, **arguments(views, config))
        self.teach(views, config)
        return estimate

    def student(self, views: Views, config: GuidanceConfig) -> Student:
        """The student, made at the first call."""
        if self._student is None:
            self._student = Student(
                self.prior, rank=own(StudentSettings, config).lora_rank, generator=views.generator
            )
        return self._student

    def training_pair(self, x: Tensor, e: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy x_t, and what a perfect student would predict at it; all [B, c, h, w] but t [B]."""
        raise NotImplementedError

    def teach(self, views: Views, config: GuidanceConfig) -> None:
        """Trains the student on the views as they are, over all noise levels, without guidance."""
        x, learning = views.x.detach(), own(StudentSettings, config)
        for _ in range(learning.lora_steps):
            every = views.share.total(len(x))
            t, e = (
                send(views.share.take(draw(*shape, generator=views.generator)), x.device, x.dtype)
                for draw, shape in ((torch.rand, (every,)), (torch.randn, (every, *x.shape[1:])))
            )
            dropped = torch.rand((), generator=views.generator).item() < CAMERA_DROPPED
            x_t, target = self.training_pair(x, e, t)
            cameras = None if dropped else views.cameras
            self.student(views, config).learn(
                x_t, t, views.plain, cameras, target, learning.lr_lora, views.finite, views.share
            )

    def state(self) -> dict[str, Any]:
        return {} if self._student is None else self._student.state()

    def load(self, state: dict[str, Any]) -> None:
        if state:
            # Its first weights are replaced at once, so that no draw of the run's own generator is spent on them.
            self._student = Student(self.prior, rank=state["rank"], generator=torch.Generator())
            self._student.load(state)
