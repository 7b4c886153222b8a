"""A style sheet for our pages: what viser has no setting for, and what nobody misses where its pages are made otherwise."""

from __future__ import annotations

GONE = "rfgs-gone"
"""Class of what is to be read once the page's process does not answer any more. No server can say so then; viser freezes
its panel (`pointer-events: none`), and that brings it to light."""

SHEET = f"""<style>
.{GONE} {{ display: none; }}
[style*="pointer-events: none"] .{GONE} {{ display: block; }}
[style*="pointer-events: none"] .rfgs-state {{ display: none; }}
[style*="pointer-events: none"]:has(.{GONE}) {{ opacity: 1 !important; }}
/* The tree of the scene and the settings of viser's own developers. */
button:has(.tabler-icon-adjustments) {{ display: none !important; }}
/* On a phone (viser's own limit), the object above and the panel below it, and not before it. */
@media (max-width: 36em) {{
  div:has(> div + .mantine-Paper-root .rfgs-sheet) {{ flex-direction: column; }}
  div:has(+ .mantine-Paper-root .rfgs-sheet) {{ height: auto !important; flex: 1 1 0; min-height: 0; }}
  .mantine-Paper-root:has(.rfgs-sheet) {{
    position: relative !important; flex: none; width: 100% !important; max-height: 44% !important;
  }}
  .mantine-Paper-root:has(.rfgs-sheet) div[style*="width: 20em"] {{ width: 100% !important; }}
}}
</style><div class="rfgs-sheet"></div>"""
"""HTML for `gui.add_html`."""


def when_gone(html: str) -> str:
    """HTML that is seen only once the page's process does not answer any more."""
    return f'<div class="{GONE}">{html}</div>'
