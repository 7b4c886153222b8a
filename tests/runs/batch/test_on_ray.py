"""A batch on a Ray cluster of this machine's own, where Ray is installed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rfgs.errors import UserError
from rfgs.runs.batch import on_ray
from rfgs.runs.batch.local import Stop
from rfgs.runs.batch.places import Needs
from rfgs.runs.batch.plan import Asset
from rfgs.runs.job import Job


def test_without_ray_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"--ray auto: Ray is not installed; install it with `pip install 'rfgs\[ray\]'`"
    ):
        on_ray.connect("auto")


def test_tasks_that_die_are_made_elsewhere_and_what_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = pytest.importorskip("ray", reason="ray is not installed (pip install 'rfgs[ray]')")

    def make(text: str) -> None:
        import json

        folder = Path(json.loads(text)["folder"])
        folder.mkdir(exist_ok=True)
        tries = len(list(folder.iterdir()))
        (folder / str(tries)).touch()
        if folder.name == "dies" and not tries:
            os.kill(os.getpid(), signal.SIGKILL)
        if folder.name == "fails":
            from rfgs.errors import UserError as Told

            raise Told("no room; make some")

    with pytest.raises(UserError, match=r"--ray ray://127\.0\.0\.1:1: no cluster answers there .*refused"):
        on_ray.connect("ray://127.0.0.1:1")
    monkeypatch.setattr(on_ray, "make", make)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with pytest.raises(UserError, match="no machine has the 99 cores"):
            on_ray.check_room("here", Needs(99, 1, 0))
        with pytest.raises(UserError, match="the cluster at here has no GPU"):
            on_ray.device("here", "cuda")
        assert on_ray.device("here", "auto") == "cpu"
        assets = [Asset(Job(name), tmp_path / name) for name in ("dies", "fails", "works")]
        ended = on_ray.run(assets, Needs(1, 2**20, 0), address="here", retries=1, stop=Stop())
        assert {end.asset.job.prompt: end.problem for end in ended} == {
            "dies": "",
            "works": "",
            "fails": "no room; make some",
        }
        assert [len(list((tmp_path / name).iterdir())) for name in ("dies", "fails", "works")] == [2, 2, 1]
    finally:
        ray.shutdown()
