"""The page of a batch: a picture of each asset with its prompt, seed, seconds and files. Plain HTML, for any browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rfgs.export.writing import atomic
from rfgs.runs import folders
from rfgs.runs.batch.plan import Asset

PAGE = "index.html"

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 90em; padding: 0 1em; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(30em, 1fr)); gap: 1.5em; }}
figure {{ margin: 0; }} img {{ width: 100%; background: #eee; aspect-ratio: 8; }} figcaption {{ color: #444; }}
.dropped img {{ opacity: .4; }} .problem {{ color: #a00; }}
</style></head><body><h1>{title}</h1>
<p>{about}</p>
<main>
"""


def write_page(
    folder: Path,
    assets: Sequence[Asset],
    problems: Mapping[Path, str],
    read: Callable[[Path], dict[str, Any]],
) -> Path:
    """Writes the page of a batch into its folder, from what is there; returns its path.

    Args:
        problems: why assets were not made, by their folders.
        read: a record by its folder; {} where there is none.
    """
    figures, made = [], 0
    for asset in assets:
        record = read(asset.folder)
        made += record.get("state") == "finished"
        figures.append(_figure(asset, record, problems.get(asset.folder, "")))
    about = f"{made} of {len(assets)} made"
    with atomic(folder / PAGE) as path:
        path.write_text(
            _HEAD.format(title=escape(folder.resolve().name), about=about)
            + "\n".join(figures)
            + "\n</main></body></html>\n",
            encoding="utf-8",
        )
    return folder / PAGE


def _figure(asset: Asset, record: Mapping[str, Any], problem: str) -> str:
    place = quote(asset.folder.name)
    kept = record.get("kept") is not False
    words = f"{escape(asset.job.prompt)}, seed {asset.job.seed}"
    if record.get("state") != "finished":
        told = f'<span class="problem">{escape(problem) or "not made yet"}</span>'
        return f'<figure><figcaption><b>{words}</b><br>{told}, <a href="{place}/">files</a></figcaption></figure>'
    told = f"{sum(record['seconds'].values()):.1f} s, {record['splats']} splats"
    told += "".join(f", {name} {value:.3g}" for name, value in record.get("scores", {}).items())
    names = [folders.SPLATS, folders.VIDEO, folders.RECORD] if kept else [folders.RECORD]
    links = " ".join(f'<a href="{place}/{name}">{name}</a>' for name in names)
    return (
        f'<figure{"" if kept else " class=dropped"}><a href="{place}/{folders.VIDEO if kept else folders.STRIP}">'
        f'<img loading="lazy" src="{place}/{folders.STRIP}" alt="{words}"></a>'
        f"<figcaption><b>{words}</b>{'' if kept else ', not kept'}<br>{told}<br>{links}</figcaption></figure>"
    )
