"""The training cameras of the newest step as frusta in the scene, each with what it saw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import viser
import viser.transforms

from rfgs.viewer.background import in_own_thread

if TYPE_CHECKING:
    from torch import Tensor

    from rfgs.render.cameras import Cameras


class ShownCameras:
    """Frusta under "/cameras" that follow the newest step while they are wanted."""

    SIZE = 0.22
    """Of a frustum, world units."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server = server
        self._handles: list[viser.CameraFrustumHandle] = []
        self._followed: tuple[Cameras, Tensor] | None = None

    def follow(self, views: tuple[Cameras, Tensor] | None) -> None:
        """Shows cameras with what they saw, or none. The same ones again change nothing: with each change of the scene browsers
        draw for a quarter of a second."""
        if views is not self._followed:
            self._followed = views
            if views is None:
                self.hide()
            else:
                in_own_thread(lambda: self.show(*views))

    def show(self, cameras: Cameras, images: Tensor) -> None:
        """Shows `cameras` with `images` [C, 3, H, W] in [0, 1] in place of the ones before."""
        positions = cameras.positions.cpu().numpy()
        rotations = cameras.viewmats[:, :3, :3].mT.cpu().numpy()
        focal = float(cameras.Ks[0, 1, 1])
        pictures = (images.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        while len(self._handles) > len(cameras):
            self._handles.pop().remove()
        with self._server.atomic():
            for index, picture in enumerate(pictures):
                wxyz = viser.transforms.SO3.from_matrix(rotations[index].astype(np.float64)).wxyz
                if index < len(self._handles):
                    handle = self._handles[index]
                    handle.wxyz, handle.position, handle.image = wxyz, positions[index], picture
                else:
                    handle = self._server.scene.add_camera_frustum(
                        f"/cameras/{index}",
                        fov=2 * math.atan(cameras.height / 2 / focal),
                        aspect=cameras.width / cameras.height,
                        scale=self.SIZE,
                        color=(236, 112, 58),
                        image=picture,
                        wxyz=wxyz,
                        position=positions[index],
                        cast_shadow=False,
                        receive_shadow=False,
                    )
                    self._handles.append(handle)

    def hide(self) -> None:
        """Takes them out of the scene."""
        while self._handles:
            self._handles.pop().remove()
