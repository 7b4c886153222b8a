"""A page in one file: splats, the program that draws them, and nothing to fetch."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

import viser

from rfgs.errors import UserError
from rfgs.export.comments import value_of
from rfgs.export.framing import framing
from rfgs.export.writing import atomic, finite_splats
from rfgs.splats import Splats
from rfgs.viewer.aim import FIRST_ELEVATION, Aim, open_at
from rfgs.viewer.server import open_server, stop_server
from rfgs.viewer.stage import Look, Stage

WORKERS_FROM_DISK = """<script>
if (location.protocol === "file:") {
  const scripts = new WeakMap(), url = URL.createObjectURL.bind(URL);
  self.Blob = class extends Blob {
    constructor(parts, options) {
      super(parts, options);
      if (/javascript/.test(this.type) && parts.every(part => typeof part === "string")) scripts.set(this, parts.join(""));
    }
  };
  URL.createObjectURL = blob => scripts.has(blob)
    ? "data:text/javascript;charset=utf-8," + encodeURIComponent(scripts.get(blob))
    : url(blob);
}
</script>"""
"""Chromium runs no module worker from a blob: in a page that was opened from disk, and from a data: it does. Without its worker
viser draws splats in any order. Before viser's own scripts."""
FIT_UPRIGHT = """<script>
(() => {
  const upright = innerHeight / innerWidth, center = CENTER, asked = new URLSearchParams(location.search);
  asked.delete("initialCameraPosition");
  if (upright > 1 && upright < 100)
    asked.set("initialCameraPosition", PLACE.map((x, i) => center[i] + upright * (x - center[i])).join(","));
  try { history.replaceState(null, "", (asked.size ? "?" + asked : location.pathname) + location.hash); } catch {}
})();
</script>"""
"""Has the camera of a page in an upright window, as on a phone, begin as far away as the whole needs: a camera's angle is that
of its window's height. viser takes the place from the page's address; where that may not be changed, it is the usual one."""


def write_page(splats: Splats, path: str | Path, *, comments: Sequence[str] = ()) -> None:
    """Writes `share_page`, with the prompt as its title if `comments` have one.

    Raises:
        UserError: a folder that cannot be written to, or no finite splat.
    """
    title = value_of(list(comments), "prompt") or Path(path).stem
    page = share_page(finite_splats(splats, path), title=title, comments=comments)
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def share_page(
    splats: Splats, *, title: str = "rfgs", look: Look | None = None, comments: Sequence[str] = ()
) -> str:
    """A stand-alone HTML document that shows `splats` upright, front first, and lets its reader orbit.

    Args:
        title: of the document, such as the prompt.
        look: background and splat scale; the channel is RGB always.
        comments: lines for the document's description, such as the prompt and the seed.
    """
    # A server of its own, for a moment: the scene of a live one may be showing something else than its
    # splats.
    server = open_server("127.0.0.1", 0, title=title)
    try:
        stage = Stage(server)
        if look is not None:
            stage.look.background, stage.look.splat_scale = look.background, look.splat_scale
            stage.paint_background()
        aim = Aim.at(*framing(splats))
        open_at(server, aim)
        stage.put("/asset", splats)
        stage.draw()
        page = serialized(server)
    finally:
        stop_server(server)
    head = f"<title>{html.escape(title)}</title>"
    if comments:
        head += f'<meta name="description" content="{html.escape("; ".join(comments))}">'
    if page.count("<title>Viser</title>") != 1:
        raise UserError(f"viser {viser.__version__} makes another page than rfgs knows; install viser 1.1")
    return page.replace("<title>Viser</title>", head + WORKERS_FROM_DISK + _fit_upright(aim))


def _fit_upright(aim: Aim) -> str:
    """`FIT_UPRIGHT` for what is to be seen."""
    place = aim.position(aim.azimuth, FIRST_ELEVATION, 1.0)
    return FIT_UPRIGHT.replace("CENTER", json.dumps(aim.center)).replace("PLACE", json.dumps(place))


def serialized(server: viser.ViserServer) -> str:
    """viser's own serialization of a scene."""
    return server.get_scene_serializer().as_html(dark_mode=True)
