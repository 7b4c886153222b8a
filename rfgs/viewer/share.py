"""A page in one file: splats, the program that draws them, and nothing to fetch."""

from __future__ import annotations

import html

import viser

from rfgs.splats import Splats
from rfgs.viewer.server import open_server, stop_server
from rfgs.viewer.stage import Look, Stage


def share_page(splats: Splats, *, title: str = "rfgs", look: Look | None = None) -> str:
    """A stand-alone HTML document that shows `splats` upright, front first, and lets its reader orbit.

    Args:
        title: of the document, such as the prompt.
        look: background and splat scale; the channel is RGB always.
    """
    # A server of its own, for a moment: the scene of a live one may be showing something else than its
    # splats.
    server = open_server("127.0.0.1", 0, title=title)
    try:
        stage = Stage(server)
        if look is not None:
            stage.look.background, stage.look.splat_scale = look.background, look.splat_scale
            stage.paint_background()
        stage.put("/asset", splats)
        stage.draw()
        page = serialized(server)
    finally:
        stop_server(server)
    return page.replace("<title>Viser</title>", f"<title>{html.escape(title)}</title>", 1)


def serialized(server: viser.ViserServer) -> str:
    """viser's own serialization of a scene."""
    return server.get_scene_serializer().as_html(dark_mode=True)
