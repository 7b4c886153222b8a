"""VSD: a diffusion model judges images against what a student of the images says of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rfgs.guidance.common import Estimate, Reduction, matching_loss, root_mean_square
from rfgs.guidance.lora import StudentGuide
from rfgs.guidance.perp_neg import Others, guided_prediction
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import estimate_x0, interpolate


def vsd(
    prior: Prior, student: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Condition, negative: Condition,
    *, t: Tensor, e: Tensor, guidance_scale: float, reduction: Reduction = "sum", others: Others | None = None,
) -> Estimate:  # fmt: skip
    """Variational score distillation (Wang et al. 2023, "ProlificDreamer", equation 9), as a match of clean estimates:

        L = w sqrt(alpha_bar / (1 - alpha_bar)) || x - sg[x + x0_hat - x0_student] ||^2,   w = 1 - alpha_bar = sigma^2

    whose gradient by x is the paper's w (eps_cfg(x_t, t) - eps_student(x_t, t)). It is `sds` with the random noise e
    replaced by what the student takes for noise, so that x stands still where prior and student agree.
    Three network evaluations a sample; the student's training is apart.

    Args:
        student: gives its noise [B, c, h, w] at x_t [B, c, h, w], t [B]; it is not guided.
        Others as in `sds`.
    """
    x_t = interpolate(prior, x.detach(), e, t)
    epsilon = guided_prediction(prior, x_t, t, condition, negative, guidance_scale, others)
    theirs = student(x_t, t)
    x0_hat = estimate_x0(prior, x_t, epsilon, t)
    target = x.detach() + x0_hat - estimate_x0(prior, x_t, theirs, t)
    signal, noise = (power.to(x) for power in prior.powers(t))  # alpha_bar and 1 - alpha_bar.
    loss = matching_loss(x, target, reduction, weight=(signal * noise).sqrt())
    return Estimate(loss, root_mean_square(epsilon - theirs), x0_hat, t)


class VSD(StudentGuide):
    """`vsd` for the loops, and the training of its student."""

    name, kind = "vsd", "diffusion"
    judge = staticmethod(vsd)

    def training_pair(self, x: Tensor, e: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Noise, as in Ho et al. 2020, equation 14."""
        return interpolate(self.prior, x, e, t), e
