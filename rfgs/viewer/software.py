"""Browsers without a GPU: how a page hears that it is in one, before anything is sent there.

Such a browser takes half a minute for 200,000 splats, and no server is told what it draws with. So a script in the page
looks, before viser's own scripts run, and leaves the answer in a cookie, which the page's websocket shows as it connects.
"""

from __future__ import annotations

import gzip

from websockets.datastructures import Headers
from websockets.http11 import Response

COOKIE = "rfgs-software"
"""Of all pages of ours: it says something of the browser, and not of one of them."""
MOST_SPLATS = 30_000
"""Which software draws in four seconds, on two cores; of more it is sent pictures."""

SCRIPT = f"""
function drawsInSoftware() {{
  const gl = document.createElement("canvas").getContext("webgl2");
  const about = gl && gl.getExtension("WEBGL_debug_renderer_info");
  const name = about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : gl ? "" : "software";
  if (gl) gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}}
if (!/(^|; )rfgs-software=/.test(document.cookie))
  document.cookie = "{COOKIE}=" + (drawsInSoftware() ? 1 : 0) + "; Path=/; SameSite=Strict";
"""
"""It looks once until the browser is closed: looking takes a tenth of a second without a GPU."""


def draws_in_software(headers: Headers) -> bool:
    """Whether the browser that asks said that it has no GPU."""
    cookies = [part.strip() for line in headers.get_all("Cookie") for part in line.split(";")]
    return f"{COOKIE}=1" in cookies


def with_script(page: Response) -> Response:
    """viser's page with the script before its own; anything else as it is."""
    if not page.headers.get("Content-Type", "").startswith("text/html"):
        return page
    packed = page.headers.get("Content-Encoding") == "gzip"
    html = gzip.decompress(page.body) if packed else bytes(page.body)
    html = html.replace(b"<head>", f"<head><script>{SCRIPT}</script>".encode(), 1)
    page.body = gzip.compress(html, 1) if packed else html
    del page.headers["Content-Length"]
    page.headers["Content-Length"] = str(len(page.body))
    return page
