"""What names of models stand for."""

from __future__ import annotations

from rfgs.models.catalog import BACKENDS, Place, find_backend, locate, name_of, source_of
from rfgs.models.families import INSTAFLOW, SD

SD3 = find_backend("sd3")


def test_the_old_spelling() -> None:
    assert find_backend("sd3.5-large") is find_backend("sd35-large")


def test_what_names_stand_for() -> None:
    assert locate("sd15") == Place("stable-diffusion-v1-5/stable-diffusion-v1-5", SD)
    # A hub id that a backend has is known by what the backend says, since InstaFlow's files look like Stable Diffusion's.
    assert locate("XCLiu/2_rectified_flow_from_sd_1_5") == locate("instaflow")
    assert locate("instaflow:here") == Place("here", INSTAFLOW)
    assert locate("here") == Place("here")
    assert locate("instaflow-reality").style == ("Lykon/absolute-reality-1.81", locate("sd15").source)


def test_kinds() -> None:
    assert {b.name for b in BACKENDS if b.hub_id and b.kind == "diffusion"} == {"sd15", "sd21"}


def test_a_backend_is_known_by_what_is_loaded_for_it() -> None:
    for backend in BACKENDS:
        assert name_of(source_of(backend)) == backend.name
        assert name_of(backend.name) == backend.name
    assert name_of("somebody/elses-model") is None and name_of("/a/folder") is None
