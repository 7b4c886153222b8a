"""What stands in the scene: splats, drawn by the browsers themselves, in the look that was chosen."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Literal

import numpy as np
import viser

from rfgs.viewer.packing import pack

if TYPE_CHECKING:
    from rfgs.splats import Splats

Channel = Literal["RGB", "Alpha", "Depth"]


@dataclasses.dataclass
class Look:
    """How the scene is shown, the same in every browser."""

    channel: Channel = "RGB"
    """What a pixel shows. Browsers draw RGB only: alpha and depth are rendered here and sent as pictures."""
    server_side: bool = False
    """Render RGB here too: the exact pixels of `rfgs.render`, some time after each camera move."""
    resolution: int = 512
    """Height of the pictures rendered here, pixels."""
    background: tuple[int, int, int] = (32, 33, 36)
    """RGB, 0 to 255."""
    splat_scale: float = 1.0
    """Factor on the standard deviations of all splats."""

    @property
    def as_pictures(self) -> bool:
        """Whether browsers get pictures instead of splats."""
        return self.server_side or self.channel != "RGB"


@dataclasses.dataclass
class Item:
    """One set of splats, where it stands, and its handle in the browsers."""

    splats: Splats
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    handle: viser.GaussianSplatHandle | None = None
    drawn: tuple[Splats, float] | None = None
    """The splats and splat scale that browsers have."""


class Stage:
    """Puts splats before the browsers. Any thread may call its methods; no browser is waited for."""

    def __init__(self, server: viser.ViserServer) -> None:
        self.server = server
        self.look = Look()
        self._items: dict[str, Item] = {}
        self._version = 0
        # Guards what the items are, and is never held for long.
        self._lock = threading.Lock()
        # Held while splats are packed and queued, which takes long where there are many: one after another, so that
        # what was taken first cannot replace what was taken later. Nobody else waits for it.
        self._drawing = threading.Lock()
        self.paint_background()

    def put(self, name: str, splats: Splats, position: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        """Lets `splats` stand under `name`, in place of what stood there before; `draw` shows them.

        Args:
            name: a scene path such as "/asset".
            splats: not changed by anybody afterwards; the caller copies those that an optimizer owns.
            position: world units.
        """
        with self._lock:
            item = self._items.get(name)
            if item is not None and item.splats is splats and item.position == position:
                return  # Pictures of it need not be made again.
            if item is None:
                self._items[name] = Item(splats, position)
            else:
                item.splats, item.position = splats, position
            self._version += 1

    def draw(self) -> None:
        """Sends the browsers what they do not have yet. What is put meanwhile wants another call."""
        with self._drawing:
            with self._lock:
                items = [(name, item, item.splats, item.position) for name, item in self._items.items()]
            for name, item, splats, position in items:
                self._draw(name, item, splats, position)

    def count(self) -> int:
        """How many splats stand there."""
        with self._lock:
            return sum(len(item.splats) for item in self._items.values())

    def state(self) -> tuple[object, ...]:
        """Changes whenever a picture of the scene would."""
        return (self._version, *dataclasses.astuple(self.look))

    def paint_background(self) -> None:
        """Fills what lies behind the splats, in every browser."""
        self.server.scene.set_background_image(solid(self.look.background), format="png")

    def splats(self) -> Splats | None:
        """All of them where they stand, as one set, or None while there are none."""
        with self._lock:
            placed = [
                dataclasses.replace(
                    item.splats, means=item.splats.means + item.splats.means.new_tensor(item.position)
                )
                for item in self._items.values()
            ]
        if len(placed) < 2:
            return placed[0] if placed else None
        from rfgs.splats import Splats

        return Splats.merge(placed)

    def _draw(self, name: str, item: Item, splats: Splats, position: tuple[float, float, float]) -> None:
        if self.look.as_pictures:
            # Taken away, and not only hidden: who comes now would be sent what a browser without a GPU cannot bear.
            if item.handle is not None:
                item.handle.remove()
            item.handle = item.drawn = None
            return
        if item.handle is not None:
            item.handle.position = position
        wanted = (splats, self.look.splat_scale)
        if item.drawn is not None and item.drawn[0] is wanted[0] and item.drawn[1] == wanted[1]:
            return
        gaussians = pack(*wanted)
        if item.handle is None:
            item.handle = self.server.scene.add_gaussian_splats(name, *gaussians, position=position)
        else:
            item.handle.set_gaussians(*gaussians)
        item.drawn = wanted


def solid(rgb: tuple[int, int, int]) -> np.ndarray:
    """A picture of one color, uint8 [8, 8, 3]."""
    return np.full((8, 8, 3), rgb, dtype=np.uint8)


def snapshot(splats: Splats) -> Splats:
    """A copy that later steps do not change; on CUDA, queued behind earlier work without waiting for it."""
    return splats.detach().clone()
