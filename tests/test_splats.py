import math

import pytest
import torch

from rfgs.errors import UserError
from rfgs.splats import HAZE, SH_C0, Splats, ball, bound_colors, bound_extent, without_haze


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_splats(degree: int = 0) -> Splats:
    coefficients = (degree + 1) ** 2 - 1
    return Splats(
        means=torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]),
        log_scales=torch.tensor([[0.0, math.log(2.0), -1.0], [0.0, 0.0, 0.0]]),
        logit_opacities=torch.tensor([0.0, math.log(3.0)]),
        sh0=torch.tensor([[[0.0, 0.5 / SH_C0, -9.0]], [[0.0, 0.0, 0.0]]]),
        shN=torch.arange(2.0 * coefficients * 3).reshape(2, coefficients, 3) if degree else None,
    )


def test_activations():
    splats = two_splats()
    torch.testing.assert_close(splats.scales[0], torch.tensor([1.0, 2.0, math.exp(-1.0)]))
    torch.testing.assert_close(splats.opacities, torch.tensor([0.5, 0.75]))
    torch.testing.assert_close(splats.colors[0], torch.tensor([0.5, 1.0, 0.0]))
    assert len(splats) == 2 and splats.device.type == "cpu"


def test_sh_constant_is_the_zeroth_harmonic():
    assert SH_C0 == pytest.approx(0.5 / math.sqrt(math.pi), abs=1e-15)


@pytest.mark.parametrize("degree", range(4))
def test_sh_degree(degree):
    assert two_splats(degree).sh_degree == degree


def test_parameters_round_trip_in_order_and_share_memory():
    splats = two_splats(1)
    named = splats.parameters()
    assert list(named) == ["means", "quats", "log_scales", "logit_opacities", "sh0", "shN"]
    named["means"][0, 0] = 7
    assert Splats.from_parameters(named).means[0, 0] == 7 and splats.means[0, 0] == 7
    assert "shN" not in two_splats().parameters()
    with pytest.raises(UserError, match="means, color"):
        Splats.from_parameters({"means": splats.means, "color": splats.means})


def test_wrong_shapes_are_named():
    named = two_splats().parameters()
    with pytest.raises(UserError, match=r"quats is \[2, 3\], expected \[2, 4\]"):
        Splats(**{**named, "quats": torch.zeros(2, 3)})
    with pytest.raises(UserError, match=r"shN is \[2, 4, 3\]"):
        Splats(**named, shN=torch.zeros(2, 4, 3))


def test_gradients_reach_the_parameters_and_detach_stops_them():
    splats = two_splats(1).requires_grad_()
    assert all(tensor.requires_grad for tensor in splats.parameters().values())
    (splats.scales.sum() + splats.opacities.sum()).backward()
    torch.testing.assert_close(splats.log_scales.grad, splats.scales.detach())
    assert not any(tensor.requires_grad for tensor in splats.detach().parameters().values())


def test_clone_is_independent():
    splats = two_splats()
    copy = splats.clone()
    copy.means.zero_()
    assert splats.means[0, 1] == 1


def test_select_by_mask_index_and_slice():
    splats = two_splats(2)
    assert splats.select(torch.tensor([False, True])).means.tolist() == [[3, 4, 5]]
    assert splats.select(torch.tensor([1, 0, 1])).means[:, 0].tolist() == [3, 0, 3]
    assert len(splats.select(slice(0, 0))) == 0
    assert splats.select(torch.tensor([1])).shN.shape == (1, 8, 3)


def test_merge_pads_harmonics_with_zeros():
    merged = Splats.merge([two_splats(0), two_splats(1)])
    assert len(merged) == 4 and merged.sh_degree == 1
    assert merged.shN[:2].abs().max() == 0
    assert torch.equal(merged.shN[2:], two_splats(1).shN)
    assert Splats.merge([two_splats(0)]).shN is None
    with pytest.raises(UserError, match="nothing to merge"):
        Splats.merge([])


def test_with_sh_degree_cuts_and_pads():
    splats = two_splats(2)
    assert torch.equal(splats.with_sh_degree(1).shN, splats.shN[:, :3])
    assert splats.with_sh_degree(0).shN is None
    assert torch.equal(splats.with_sh_degree(3).shN[:, :8], splats.shN)
    with pytest.raises(UserError, match="degree 4"):
        splats.with_sh_degree(4)


def test_ball_is_uniform_and_seeded():
    splats = ball(20_000, 2.0, generator=seeded())
    radii = splats.means.norm(dim=-1)
    assert radii.max() <= 2.0
    # Uniform in a ball: the fraction within half the radius is 1/8, and each octant holds 1/8.
    assert (radii < 1.0).float().mean() == pytest.approx(1 / 8, abs=0.01)
    assert ((splats.means > 0).all(dim=-1)).float().mean() == pytest.approx(1 / 8, abs=0.01)
    again = ball(20_000, 2.0, generator=seeded())
    for one, other in zip(splats.parameters().values(), again.parameters().values(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(splats.means, ball(20_000, 2.0, generator=seeded(1)).means)


def test_ball_values():
    splats = ball(5_000, 1.0, generator=seeded(), opacity=0.3, color=0.4, color_spread=0.05)
    torch.testing.assert_close(splats.opacities, torch.full((5_000,), 0.3))
    assert splats.colors.mean() == pytest.approx(0.4, abs=0.005)
    assert splats.colors.std() == pytest.approx(0.05, abs=0.005)
    torch.testing.assert_close(splats.quats.norm(dim=-1), torch.ones(5_000))
    # The default scale is the spacing: mean distance to the nearest neighbor is 0.89 of it.
    distances = torch.cdist(splats.means[:1000], splats.means)
    nearest = distances.topk(2, largest=False).values[:, 1]
    assert (nearest.mean() / splats.scales.mean()).item() == pytest.approx(0.89, abs=0.08)
    torch.testing.assert_close(ball(3, 1.0, generator=seeded(), scale=0.02).scales, torch.full((3, 3), 0.02))


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"radius": -1.0}, {"scale": 0.0}, {"opacity": 1.0}, {"opacity": 0.0}]
)
def test_ball_refuses(wrong):
    with pytest.raises(UserError, match="ball: "):
        ball(**{"count": 1, "radius": 1.0, "generator": seeded(), **wrong})


def test_haze_is_what_is_faint_unless_all_is() -> None:
    splats = ball(4, 1.0, generator=seeded())
    splats.logit_opacities = torch.tensor([0.01, HAZE + 1e-4, 0.9, HAZE - 1e-4]).logit()
    assert torch.equal(without_haze(splats).means, splats.means[[1, 2]])
    splats.logit_opacities = torch.full((4,), -9.0)
    assert without_haze(splats) is splats


def test_colors_are_brought_back_to_where_renderer_and_autoencoder_pass_gradients():
    splats = two_splats()
    splats.sh0 = torch.tensor([[[-0.4, 0.5, 5.3]], [[0.0, 1.0, 0.998]]]).sub(0.5).div(SH_C0).requires_grad_()
    bound_colors(splats)
    colors = 0.5 + SH_C0 * splats.sh0
    expected = torch.tensor([[[0.002, 0.5, 0.998]], [[0.002, 0.998, 0.998]]])
    torch.testing.assert_close(colors, expected, atol=1e-4, rtol=0)
    colors.clamp(0, 1).sum().backward()
    assert (splats.sh0.grad > 0).all()


def test_no_splat_leaves_its_ball():
    splats = ball(200, 2.0, generator=seeded())
    splats.log_scales = torch.randn(200, 3, generator=seeded(1)) - 3.0
    before = splats.clone()
    bound_extent(splats, 1.2)
    assert (splats.means.norm(dim=-1) + 2 * splats.scales.amax(-1) <= 1.2 + 1e-5).all()
    assert (splats.scales <= 0.24 + 1e-6).all()
    # On the way to the origin, and where they were if they were inside.
    directions = torch.nn.functional.cosine_similarity(splats.means, before.means, dim=-1)
    torch.testing.assert_close(directions, torch.ones(200))
    inside = (before.means.norm(dim=-1) + 2 * before.scales.amax(-1) < 1.2) & (before.scales < 0.24).all(-1)
    assert inside.any() and not inside.all()
    torch.testing.assert_close(splats.means[inside], before.means[inside])
    unbounded = before.clone()
    bound_extent(unbounded, math.inf)
    torch.testing.assert_close(unbounded.means, before.means)
    with pytest.raises(UserError, match="radius 0: has to be a positive number"):
        bound_extent(unbounded, 0.0)
