"""`Splats`: the parameters of a set of 3D Gaussians, as the optimizer sees them, and how to start one.

The world is right-handed, +Z up, front +X; quaternions are (w, x, y, z); colors are display-referred sRGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rfgs.errors import UserError

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): rgb = 0.5 + SH_C0 * sh0."""


@dataclass
class Splats:
    """N Gaussians by their pre-activation parameters, float32, each unconstrained.

    Raises UserError where a shape disagrees with the others.
    """

    means: Tensor
    """Centers in world units, [N, 3]."""
    quats: Tensor
    """Rotations (w, x, y, z), which need not be normalized, [N, 4]."""
    log_scales: Tensor
    """Natural logarithms of the standard deviations along the Gaussians' own axes, [N, 3]."""
    logit_opacities: Tensor
    """Logits of the peak opacities, [N]."""
    sh0: Tensor
    """Constant spherical-harmonic coefficients of red, green and blue, [N, 1, 3]."""
    shN: Tensor | None = None
    """Higher coefficients, degree by degree, [N, (degree + 1)^2 - 1, 3]; None means degree 0."""

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        expected = {
            "means": (n, 3),
            "quats": (n, 4),
            "log_scales": (n, 3),
            "logit_opacities": (n,),
            "sh0": (n, 1, 3),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UserError(
                    f"splats: {name} is {list(getattr(self, name).shape)}, expected {list(shape)}"
                )
        if self.shN is not None and self.shN.shape not in {(n, 3, 3), (n, 8, 3), (n, 15, 3)}:
            raise UserError(
                f"splats: shN is {list(self.shN.shape)}, expected [{n}, 3, 8 or 15, 3] (degree 1 to 3)"
            )

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def device(self) -> torch.device:
        return self.means.device

    @property
    def scales(self) -> Tensor:
        """Standard deviations in world units, [N, 3]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Peak opacities in (0, 1), [N]."""
        return self.logit_opacities.sigmoid()

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return 0 if self.shN is None else round((self.shN.shape[1] + 1) ** 0.5) - 1

    @property
    def colors(self) -> Tensor:
        """Colors without their view dependence, [N, 3]; at least 0, and above 1 where over-exposed."""
        return (0.5 + SH_C0 * self.sh0[:, 0]).clamp_min(0)

    def parameters(self) -> dict[str, Tensor]:
        """The tensors themselves (not copies) by field name, without shN at degree 0."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @staticmethod
    def from_parameters(parameters: dict[str, Tensor]) -> Splats:
        """The inverse of `parameters`; it shares the tensors."""
        try:
            return Splats(**parameters)
        except TypeError as error:
            raise UserError(
                f"splats: not a set of splat parameters: {', '.join(parameters) or 'empty'}"
            ) from error

    def requires_grad_(self, requires_grad: bool = True) -> Splats:
        for tensor in self.parameters().values():
            tensor.requires_grad_(requires_grad)
        return self

    def detach(self) -> Splats:
        return self._map(Tensor.detach)

    def clone(self) -> Splats:
        return self._map(Tensor.clone)

    def to(self, device: torch.device | str) -> Splats:
        return self._map(lambda tensor: tensor.to(device))

    def are_finite(self) -> Tensor:
        """Which splats have numbers throughout, [N]."""
        values = [value.reshape(len(self), -1) for value in self.parameters().values()]
        return torch.stack([value.isfinite().all(dim=1) for value in values]).all(dim=0)

    def select(self, mask_or_index: Tensor | slice) -> Splats:
        """The splats where a bool mask [N] is true, or those of an index [M], in its order."""
        return self._map(lambda tensor: tensor[mask_or_index])

    @staticmethod
    def merge(parts: Sequence[Splats]) -> Splats:
        """All splats of `parts` in order; lower spherical-harmonic degrees are zero-padded to the highest."""
        if not parts:
            raise UserError("splats: nothing to merge, give at least one set of splats")
        degree = max(part.sh_degree for part in parts)
        padded = [part.with_sh_degree(degree).parameters() for part in parts]
        return Splats(**{name: torch.cat([part[name] for part in padded]) for name in padded[0]})

    def with_sh_degree(self, degree: int) -> Splats:
        """The same splats with spherical harmonics up to `degree` (0 to 3): padded with zeros, or cut."""
        if degree not in range(4):
            raise UserError(f"splats: spherical-harmonic degree {degree} is not one of 0 to 3")
        named = self.parameters()
        higher = named.pop("shN", self.means.new_zeros(len(self), 0, 3))
        missing = (degree + 1) ** 2 - 1 - higher.shape[1]
        if missing >= 0:
            higher = torch.cat([higher, higher.new_zeros(len(self), missing, 3)], dim=1)
        else:
            higher = higher[:, :missing]
        return Splats(**named, shN=higher if degree > 0 else None)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Splats:
        return Splats(**{name: function(tensor) for name, tensor in self.parameters().items()})


_COLOR_MARGIN = 1 / 512
"""Half a step of 8 bits. On the very edge of [0, 1], rounding decides whether the clamps of renderer and autoencoder let a
gradient through."""


@torch.no_grad()
def bound_colors(splats: Splats) -> None:
    """Bring the degree-0 colors back into [0, 1], in place: outside, no gradient would ever move them again."""
    bound = (0.5 - _COLOR_MARGIN) / SH_C0
    splats.sh0.clamp_(-bound, bound)


@torch.no_grad()
def bound_extent(splats: Splats, radius: float) -> None:
    """Bring all splats, in place, into the ball of `radius` about the origin: two standard deviations of each, world units.

    None may be longer than a fifth of the radius (its standard deviation), so that no single one fills the ball with fog.

    Raises:
        UserError: a radius that is not positive.
    """
    if not radius > 0:
        raise UserError(f"radius {radius:g}: has to be a positive number; try 1.2")
    splats.log_scales.clamp_(max=math.log(radius / 5))
    reach = radius - 2 * splats.scales.amax(dim=-1, keepdim=True)
    splats.means *= (reach / splats.means.norm(dim=-1, keepdim=True)).clamp(max=1)


HAZE = 0.05
"""Opacity below which a splat of a finished asset is haze: docs/results.md has what leaving these out changes."""


def without_haze(splats: Splats) -> Splats:
    """The splats that show: those of opacity `HAZE` or more, or all of them if none is that strong.

    Most of what a run starts with fades where nothing is to be, but no view asks for the last few percent of it.
    """
    shows = splats.opacities.detach() >= HAZE
    return splats.select(shows) if shows.any() else splats


def ball(
    count: int,
    radius: float,
    *,
    generator: torch.Generator,
    opacity: float = 0.1,
    scale: float | None = None,
    color: float = 0.5,
    color_spread: float = 0.1,
) -> Splats:
    """Isotropic Gaussians with centers uniform in a ball about the origin: the start of a generation.

    Args:
        count: number of splats, at least 1.
        radius: of the ball, world units.
        generator: CPU generator; the result lies on the CPU, so that every device starts alike.
        opacity: of every splat, in (0, 1).
        scale: standard deviation of every splat, world units; None means radius / count^(1/3), near the mean
            distance to the nearest neighbor (0.89 of it), so that no count leaves holes in the ball.
        color: mean of each channel, in [0, 1].
        color_spread: standard deviation of each channel about it; the result is clamped to [0, 1].

    Raises:
        UserError: a value out of its range.
    """
    if count < 1 or radius <= 0 or (scale is not None and scale <= 0):
        raise UserError(f"ball: count {count}, radius {radius} and scale {scale} must be positive")
    if not 0 < opacity < 1:
        raise UserError(f"ball: opacity {opacity} must lie between 0 and 1, both excluded")
    # A direction from an isotropic normal, and a radius whose cube is uniform.
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = directions * radius * torch.rand(count, 1, generator=generator) ** (1 / 3)
    # While Gaussians are round their rotations do not show; random ones spare them a common grain later.
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    colors = (color + color_spread * torch.randn(count, 1, 3, generator=generator)).clamp(0, 1)
    deviation = torch.tensor(radius * count ** (-1 / 3) if scale is None else scale)
    return Splats(
        means=means,
        quats=quats,
        log_scales=deviation.log().expand(count, 3).clone(),
        logit_opacities=torch.tensor(opacity).logit().expand(count).clone(),
        sh0=(colors - 0.5) / SH_C0,
    )
