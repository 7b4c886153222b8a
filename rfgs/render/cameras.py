"""`Cameras`: a batch of pinhole cameras, and orbits of them around an object.

The world is right-handed, +Z up, and the object's front faces +X. A camera of azimuth 0 stands at +X and sees
the front; azimuth grows counter-clockwise seen from above, so 90 stands at +Y; elevation 90 is straight
above. Camera axes are OpenCV's: x right, y down, z forward; pixel centers lie at +0.5. All angles of this
module are degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rfgs.errors import UserError
from rfgs.render.defaults import DEFAULT_DISTANCE, DEFAULT_ELEVATIONS, DEFAULT_FOV

Numbers = float | Sequence[float] | Tensor


@dataclass(frozen=True, eq=False)
class Cameras:
    """C cameras that share one image size.

    Raises UserError for a size below one pixel or matrices of other shapes.
    """

    viewmats: Tensor
    """World-to-camera, rigid, [C, 4, 4]."""
    Ks: Tensor
    """Intrinsics in pixels, [C, 3, 3]."""
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UserError(f"cameras: image size {self.width}x{self.height} must be at least 1x1 pixels")
        count = self.viewmats.shape[0]
        if self.viewmats.shape != (count, 4, 4) or self.Ks.shape != (count, 3, 3):
            raise UserError(
                f"cameras: viewmats {list(self.viewmats.shape)} and Ks {list(self.Ks.shape)} "
                "must be [C, 4, 4] and [C, 3, 3] with the same C"
            )

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Cameras:
        """Some of the cameras; an int gives a batch of one."""
        rows = [index] if isinstance(index, int) else index
        return Cameras(self.viewmats[rows], self.Ks[rows], self.width, self.height)

    @property
    def positions(self) -> Tensor:
        """Camera centers in the world, [C, 3]."""
        rotations, translations = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -(rotations.mT @ translations[:, :, None])[:, :, 0]

    @property
    def azimuths(self) -> Tensor:
        """Degrees in [-180, 180] about the origin, [C]."""
        x, y, _ = self.positions.unbind(-1)
        # Straight above or below, the position has no azimuth, but the image still has a right-hand side,
        # which for an orbit's camera is (-sin, cos, 0) of its azimuth.
        at_pole = torch.hypot(x, y) < 1e-4 * self.positions.norm(dim=-1)
        right = self.viewmats[:, 0, :3]
        sine, cosine = torch.where(at_pole, -right[:, 0], y), torch.where(at_pole, right[:, 1], x)
        return torch.atan2(sine, cosine).rad2deg()

    @property
    def elevations(self) -> Tensor:
        """Degrees in [-90, 90] about the origin, [C]."""
        x, y, z = self.positions.unbind(-1)
        return torch.atan2(z, torch.hypot(x, y)).rad2deg()

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(self.viewmats.to(device), self.Ks.to(device), self.width, self.height)

    def resized(self, width: int, height: int) -> Cameras:
        """The same views in another image size, pixels; the field of view is kept in both directions."""
        factors = self.Ks.new_tensor([width / self.width, height / self.height, 1])
        return Cameras(self.viewmats, self.Ks * factors[:, None], width, height)


def orbit(
    azimuths: Numbers,
    elevations: Numbers,
    distances: Numbers,
    fovs: Numbers,
    width: int,
    height: int,
    *,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """Cameras on spheres around `target`, looking at it, upright.

    Args:
        azimuths, elevations: degrees, a number or [C]; elevations in [-90, 90]. A number is repeated for all.
        distances: from the target, world units, a number or [C].
        fovs: vertical fields of view, degrees in (0, 180), a number or [C].
        width, height: pixels (square ones).

    Raises:
        UserError: a value out of its range, or lengths that disagree.
    """
    # float64 inside, so that the rotations are orthonormal to float32's last digit.
    values = [
        torch.as_tensor(v, dtype=torch.float64).cpu().reshape(-1)
        for v in (azimuths, elevations, distances, fovs)
    ]
    try:
        azimuth, elevation, distance, fov = torch.broadcast_tensors(*values)
    except RuntimeError as error:
        raise UserError(
            "orbit: azimuths, elevations, distances and fovs have lengths "
            f"{', '.join(str(len(v)) for v in values)}; give each one number or as many as the others"
        ) from error
    for name, value, allowed, remedy in [
        ("elevation", elevation, elevation.abs() <= 90, "lie in -90 to 90 degrees"),
        ("distance", distance, distance > 0, "be positive"),
        ("fov", fov, (fov > 0) & (fov < 180), "lie between 0 and 180 degrees"),
    ]:
        if not bool(allowed.all()):
            raise UserError(f"orbit: {name} {value[~allowed][0].item():g} must {remedy}")

    sin_a, cos_a = azimuth.deg2rad().sin(), azimuth.deg2rad().cos()
    sin_e, cos_e = elevation.deg2rad().sin(), elevation.deg2rad().cos()
    # The rotation's rows are the camera's axes in the world. In closed form, rather than by cross products
    # with the up vector, they are continuous up to and at the poles.
    right = torch.stack([-sin_a, cos_a, torch.zeros_like(sin_a)], dim=-1)
    down = torch.stack([sin_e * cos_a, sin_e * sin_a, -cos_e], dim=-1)
    forward = torch.stack([-cos_e * cos_a, -cos_e * sin_a, -sin_e], dim=-1)
    rotation = torch.stack([right, down, forward], dim=-2)  # [C, 3, 3]
    position = torch.as_tensor(target, dtype=torch.float64) - distance[:, None] * forward  # [C, 3]

    viewmats = torch.eye(4, dtype=torch.float64).repeat(len(azimuth), 1, 1)
    viewmats[:, :3, :3] = rotation
    viewmats[:, :3, 3] = -(rotation @ position[:, :, None])[:, :, 0]
    Ks = torch.eye(3, dtype=torch.float64).repeat(len(azimuth), 1, 1)
    Ks[:, 0, 0] = Ks[:, 1, 1] = height / 2 / (fov.deg2rad() / 2).tan()
    Ks[:, 0, 2], Ks[:, 1, 2] = width / 2, height / 2
    return Cameras(viewmats.float(), Ks.float(), width, height)


def sample_orbit(
    count: int,
    width: int,
    height: int,
    *,
    generator: torch.Generator,
    elevation_range: tuple[float, float] = DEFAULT_ELEVATIONS,
    distance_range: tuple[float, float] = (DEFAULT_DISTANCE, DEFAULT_DISTANCE),
    fov_range: tuple[float, float] = (DEFAULT_FOV, DEFAULT_FOV),
    stratified: bool = True,
) -> Cameras:
    """Random views of the object, for one step of its optimization.

    Args:
        count: number of cameras.
        generator: CPU generator.
        elevation_range, distance_range, fov_range: (low, high), uniform; degrees, world units, degrees.
        stratified: azimuths lie 360 / count degrees apart from a random first one, so that every step sees
            all sides while each view alone is still uniform. Otherwise azimuths are independent.

    Raises:
        UserError: a range whose low is above its high, or as for `orbit`.
    """
    if count < 1:
        raise UserError(f"sample_orbit: count {count} must be at least 1")
    draws = torch.rand(4, count, generator=generator)
    azimuths = (draws[0, 0] + torch.arange(count) / count) * 360 if stratified else draws[0] * 360
    ranged = []
    for row, name, (low, high) in [
        (1, "elevation_range", elevation_range),
        (2, "distance_range", distance_range),
        (3, "fov_range", fov_range),
    ]:
        if low > high:
            raise UserError(f"sample_orbit: {name} ({low:g}, {high:g}) must be given as (low, high)")
        ranged.append(low + draws[row].double() * (high - low))
    elevations, distances, fovs = ranged
    return orbit(azimuths, elevations, distances, fovs, width, height)


def turntable(
    frames: int,
    width: int,
    height: int,
    *,
    elevation: float = 15.0,
    distance: float = DEFAULT_DISTANCE,
    fov: float = DEFAULT_FOV,
) -> Cameras:
    """One turn around the object in `frames` equal steps from the front; the last leads into the first."""
    if frames < 1:
        raise UserError(f"turntable: frames {frames} must be at least 1")
    return orbit(torch.arange(frames) * 360.0 / frames, elevation, distance, fov, width, height)


def view_words(azimuths: Numbers, elevations: Numbers) -> list[str]:
    """Words that tell a text-to-image model the side it sees (DreamFusion, Poole et al. 2023, section 3.2).

    Args:
        azimuths, elevations: degrees (any winding), a number or [C].

    Returns:
        C times "overhead view" (elevation above 60), "front view" (azimuth within 45 of 0), "back view"
        (within 45 of 180), "left side view" (the object's own left, azimuth about 90) or "right side view".
        The usual single "side view" names two different pictures wherever left and right differ.
    """
    azimuth, elevation = torch.broadcast_tensors(
        torch.as_tensor(azimuths, dtype=torch.float64).reshape(-1),
        torch.as_tensor(elevations, dtype=torch.float64).reshape(-1),
    )
    words = []
    for degrees, height in zip(azimuth.tolist(), elevation.tolist(), strict=True):
        turn = (degrees + 180) % 360 - 180  # 0 at the front, +-180 at the back, +90 on the object's left
        if height > 60:
            words.append("overhead view")
        elif abs(turn) < 45:
            words.append("front view")
        elif abs(turn) > 135:
            words.append("back view")
        else:
            words.append("left side view" if turn > 0 else "right side view")
    return words
