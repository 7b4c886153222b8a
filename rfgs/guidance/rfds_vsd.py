"""RFDS-VSD: a rectified flow judges images against what a student of the images says of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rfgs.guidance.common import Estimate, Reduction, matching_loss, root_mean_square
from rfgs.guidance.lora import StudentGuide
from rfgs.guidance.perp_neg import Others, guided_prediction
from rfgs.priors.base import Condition, Prior
from rfgs.priors.flow import estimate_x0, interpolate


def rfds_vsd(
    prior: Prior, student: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Condition, negative: Condition,
    *, t: Tensor, e: Tensor, guidance_scale: float, reduction: Reduction = "sum", others: Others | None = None,
) -> Estimate:  # fmt: skip
    """Variational score distillation of a flow, the ablation of Yang et al. (figure "RFDS-Rev vs RFDS-VSD").

    Neither paper nor code defines it; this is RFDS with the velocity of the random noise replaced by a student's, as VSD
    replaces the noise of SDS:

        L = || (e - x) - sg[(e - x) + v_cfg(x_t, t) - v_student(x_t, t)] ||^2

    so that x stands still where prior and student agree, and the gradient's sign is that of `rfds`.
    Three network evaluations a sample; the student's training is apart.

    Args:
        student: gives its velocity [B, c, h, w] at x_t [B, c, h, w], t [B]; it is not guided.
        Others as in `rfds`.
    """
    x_t = interpolate(prior, x.detach(), e, t)
    v = guided_prediction(prior, x_t, t, condition, negative, guidance_scale, others)
    theirs = student(x_t, t)
    u = e - x
    loss = matching_loss(u, u + v - theirs, reduction)
    return Estimate(loss, root_mean_square(v - theirs), estimate_x0(prior, x_t, v, t), t)


class RFDSVSD(StudentGuide):
    """`rfds_vsd` for the loops, and the training of its student."""

    name, kind = "rfds-vsd", "flow"
    judge = staticmethod(rfds_vsd)

    def training_pair(self, x: Tensor, e: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Flow matching (Lipman et al. 2023): the velocity of the straight path."""
        return interpolate(self.prior, x, e, t), e - x
