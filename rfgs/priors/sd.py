"""Stable Diffusion 1.x and 2.x: diffusion priors, for SDS and VSD.

The UNet predicts the noise, or (SD 2.1 at 768 pixels) v = sqrt(alpha_bar) e - sqrt(1 - alpha_bar) x, which is turned into
the noise here (Salimans & Ho 2022, "Progressive Distillation", appendix D).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.priors.adapter import Wanted
from rfgs.priors.base import Condition
from rfgs.priors.flow import Diffusion, classifier_free, per_sample
from rfgs.priors.unet import UNetModel


class StableDiffusionPrior(Diffusion, UNetModel):
    """A `Prior` of the family; made by `load`."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        scheduler = self.scheduler_config
        self._prediction = scheduler.get("prediction_type", "epsilon")
        if self._prediction not in ("epsilon", "v_prediction"):
            raise UserError(
                f"{self.name}: its network predicts {self._prediction!r}; only models that predict epsilon or "
                "v_prediction (scheduler/scheduler_config.json) can be used"
            )
        self._scheduler = _make_scheduler(scheduler)
        self._alpha_bars = self._scheduler.alphas_cumprod.to(self.device, torch.float32)

    def alpha_bars(self, t: Tensor) -> Tensor:
        """alpha_bar [B] of the training step nearest to t [B]."""
        return self._alpha_bars[self._label(t)]

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The noise in x_t [B, 4, h, w]."""
        output = self._evaluate(x_t, self._label(t), condition)
        if self._prediction == "epsilon":
            return output
        alpha, sigma = (per_sample(share, x_t) for share in self.alpha_sigma(t))
        return alpha * output + sigma * x_t

    def _label(self, t: Tensor) -> Tensor:
        steps = len(self._alpha_bars)
        return (steps * t.to(self.device)).round().long().clamp(0, steps - 1)

    def _sample(self, x: Tensor, wanted: Wanted) -> Tensor:
        """By the scheduler that comes with the model."""
        scheduler = self._scheduler
        scheduler.set_timesteps(wanted.steps, device=self.device)
        x = x * scheduler.init_noise_sigma
        both = Condition.cat([wanted.condition, wanted.negative])
        # Ancestral schedulers draw noise in each step.
        draws = (
            {"generator": wanted.generator}
            if "generator" in inspect.signature(scheduler.step).parameters
            else {}
        )
        for time in scheduler.timesteps:
            x_t = scheduler.scale_model_input(x, time)
            text, null = self._evaluate(torch.cat([x_t, x_t]), time.expand(2 * len(x)), both).chunk(2)
            guided = classifier_free(text, null, wanted.guidance_scale)
            x = scheduler.step(guided, time, x, **draws, return_dict=False)[0]
        return x


def _make_scheduler(config: dict[str, Any]) -> Any:
    import diffusers

    kind = getattr(diffusers, config.get("_class_name", "DDIMScheduler"))
    return kind.from_config(config)
