"""Pages of files in the studio: shared by who asks for the same, and nobody's is closed while he looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.export import write_ply
from rfgs.viewer.studio.views import MOST_VIEWS, Views
from tests.viewer.plain_client import connect_to
from tests.viewer.studio.test_line import wait_until
from tests.viewer.studio.test_shelf import run_in
from tests.viewer.viewer_fakes import three_balls


@pytest.fixture
def views() -> Iterator[Views]:
    views = Views()
    yield views
    views.close()


def runs(place: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        made.append(run_in(place / f"run-{number}"))
        write_ply(three_balls(30), made[-1] / "splats.ply")
    return made


def test_the_same_is_one_page_until_it_has_changed(views: Views, tmp_path: Path) -> None:
    one, other = runs(tmp_path, 2)
    key = views.open([one])
    assert views.open([one]) == key and views.open([one, other]) != key and len(views.keys()) == 2
    write_ply(three_balls(60), one / "splats.ply")  # As a run that goes on does.
    assert views.open([one]) != key


def test_what_nobody_looks_at_makes_room(views: Views, tmp_path: Path) -> None:
    made = runs(tmp_path, MOST_VIEWS + 1)
    keys = [views.open([run]) for run in made[:-1]]
    address = views.url(keys[0])
    assert address is not None
    with connect_to(address) as looking:
        looking.recv(timeout=60)
        wait_until(lambda: views._open[keys[0]][1].watched)
        last = views.open([made[-1]])
    assert views.keys() == [keys[0], *keys[2:], last] and views.url(keys[1]) is None


def test_nothing_to_show_is_one_line(views: Views, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no splats\.ply"):
        views.open([run_in(tmp_path / "empty")])
    assert views.keys() == []


def test_many_splats_are_drawn_here_for_a_browser_without_a_gpu(views: Views, tmp_path: Path) -> None:
    few, many = runs(tmp_path, 2)
    write_ply(three_balls(40_000), many / "splats.ply")
    for run, slow, drawn_here in ((few, True, False), (many, False, False), (many, True, True)):
        key = views.open([run], slow=slow)
        assert views._open[key][1]._page.stage.look.server_side is drawn_here
    assert len(views.keys()) == 3
