"""Pictures of splats as rfgs renders them: of one camera, in the channel that is looked at."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
import viser
import viser.transforms
from torch import Tensor

from rfgs.render import render
from rfgs.render.cameras import Cameras
from rfgs.splats import Splats
from rfgs.viewer.stage import Look

WIDEST = 4.0
"""Widths a height, of a picture rendered here: beyond it, as no screen is, the browser stretches it."""
DEPTH_COLORS = np.array([(255, 244, 214), (250, 170, 90), (205, 75, 100), (95, 45, 120), (20, 18, 50)])
"""From near to far."""


def paint(splats: Splats, cameras: Cameras, look: Look) -> np.ndarray:
    """The first of `cameras`' views in the channel that `look` asks for, uint8 [H, W, 3]."""
    background = torch.tensor(look.background, dtype=torch.float32, device=splats.device) / 255
    scaled = dataclasses.replace(splats, log_scales=splats.log_scales + math.log(look.splat_scale))
    with torch.no_grad():
        frames = render(scaled, cameras[0].to(splats.device), background, depth=look.channel == "Depth")
    if look.channel == "RGB":
        return _bytes(frames.rgb[0].permute(1, 2, 0))
    alpha = frames.alpha[0, 0]
    if look.channel == "Alpha" or frames.depth is None:
        return _bytes(alpha[:, :, None].expand(-1, -1, 3))
    return _depth_picture(frames.depth[0, 0].cpu().numpy(), alpha.cpu().numpy(), look.background)


def _depth_picture(depth: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Near to far as bright to dark over the range of the picture, fading into the background with alpha."""
    solid = alpha > 0.5
    near, far = (depth[solid].min(), depth[solid].max()) if solid.any() else (0.0, 1.0)
    place = np.clip((depth - near) / max(far - near, 1e-6), 0, 1) * (len(DEPTH_COLORS) - 1)
    knots = np.arange(len(DEPTH_COLORS))
    color = np.stack([np.interp(place, knots, channel) for channel in DEPTH_COLORS.T], axis=-1)
    mixed = alpha[:, :, None] * color + (1 - alpha[:, :, None]) * np.array(background)
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def _bytes(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).round().byte().cpu().numpy()


def browser_camera(camera: viser.CameraHandle, height: int) -> Cameras:
    """The camera of a browser as ours: the same conventions (OpenCV), at `height` pixels and its own aspect, within reason."""
    to_world = np.eye(4)
    to_world[:3, :3] = viser.transforms.SO3(camera.wxyz).as_matrix()
    to_world[:3, 3] = camera.position
    width = max(round(height * min(camera.aspect, WIDEST)), 1)
    focal = height / 2 / math.tan(camera.fov / 2)
    K = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    viewmat = torch.from_numpy(np.linalg.inv(to_world)).float()
    return Cameras(viewmat[None], torch.tensor(K)[None], width, height)
