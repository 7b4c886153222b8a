"""InstaFlow's 2-rectified flow: Stable Diffusion 1.5's UNet, trained to draw straight paths (Liu et al. 2023).

Its network predicts u = x - e, where tau = 1 - t is the fraction of *data*, and its sampler goes from tau = 0 to 1 with
x += dt u, giving the network the time label 1000 (1 - tau). In the house's convention that is v = -u at the label 1000 t.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.models.catalog import BASE, STYLED
from rfgs.models.snapshot import folder_of
from rfgs.priors.adapter import Wanted
from rfgs.priors.autoencoder import Autoencoder
from rfgs.priors.base import Condition, Recipe
from rfgs.priors.flow import Flow, classifier_free
from rfgs.priors.parts import load_module, whole_model
from rfgs.priors.unet import UNetModel

_BIG = Recipe(
    splats={
        "guidance_scale": 50.0,  # The authors' 3D configurations for it.
        # The authors' times, read as the network's own: they take away the noisiest 0.3 after a third of the run.
        "noise_range": (0.02, 0.98),
        "final_noise_range": (0.02, 0.7),
        "noise_shift": 1.0,  # They draw them evenly for it.
        "exact_inner_step": True,
    },
    images={
        "lr_latents": 3e-3,
        "noise_range": (0.02, 0.98),
        "final_noise_range": (0.02, 0.98),
        "exact_inner_step": True,
    },
)
_TINY = Recipe(
    splats={
        # Half of its relatives': docs/results.md#the-same-trials-for-each-method.
        "guidance_scale": 4.0,
        "final_guidance_scale": 2.0,
    }
)


class InstaFlowPrior(Flow, UNetModel):
    """A `Prior` of the family; made by `load`."""

    time_shift = 1.0
    """It is sampled at even times."""
    network_time: Literal["correct", "authors"] = "correct"
    """"authors" gives the network 1000 (1 - t), as the released code of RFDS does and InstaFlow's own sampler does not."""

    @property
    def recipe(self) -> Recipe:
        """The authors' settings for InstaFlow, *untested on hardware*, or for `tiny-instaflow` what its trials found."""
        return _BIG if self.vocabulary is None else _TINY

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """v at x_t [B, 4, h, w]."""
        label = t if self.network_time == "correct" else 1 - t
        return -self._evaluate(x_t, 1000 * label, condition)

    def _sample(self, x: Tensor, wanted: Wanted) -> Tensor:
        """By equal Euler steps; its authors advise scales of 1 to 2."""
        both = Condition.cat([wanted.condition, wanted.negative])
        for step in range(wanted.steps):
            t = torch.full((2 * len(x),), 1 - step / wanted.steps, device=self.device)
            text, null = self._evaluate(torch.cat([x, x]), 1000 * t, both).chunk(2)
            x = x + classifier_free(text, null, wanted.guidance_scale) / wanted.steps
        return x

    def add_style(self, styled: str, base: str) -> None:
        """Add the difference of two Stable Diffusion UNets to this one, and take the styled model's autoencoder.

        The authors of RFDS distill InstaFlow + (Lykon/absolute-reality-1.81 - Stable Diffusion 1.5), not plain InstaFlow.

        Args:
            styled, base: folders or hub ids; the difference of their weights is added with weight 1.

        Raises:
            UserError: an incomplete model, or UNets of another shape.
        """
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        cpu = torch.device("cpu")

        def weights(source: str, folder: str) -> dict[str, Any]:
            with whole_model(source, "Stable Diffusion"):
                unet = load_module(UNet2DConditionModel, folder, "unet", device=cpu, dtype=torch.float32)
            return unet.state_dict()

        styled_folder = folder_of(styled, only=STYLED)
        plus, minus = weights(styled, styled_folder), weights(base, folder_of(base, only=BASE))
        own = self.network.state_dict()
        shapes = {name: value.shape for name, value in own.items()}
        for source, other in ((styled, plus), (base, minus)):
            if {name: value.shape for name, value in other.items()} != shapes:
                raise UserError(
                    f"{source}: its UNet has another shape than that of {self.name}; both have to be alike"
                )
        for name, value in own.items():
            difference = (plus[name] - minus[name]).to(value.device)
            value.copy_((value.float() + difference).to(value.dtype))
        with whole_model(styled, "Stable Diffusion"):
            self.autoencoder = Autoencoder.load(styled_folder, device=self.setup.home)
