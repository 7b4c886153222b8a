import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
import torch

from rfgs.errors import Unwritten, UserError
from rfgs.export import FORMATS, export, read_ply
from rfgs.export.results import Results
from rfgs.export.writing import atomic, finite_splats, sweep
from rfgs.splats import ball


def splats():
    return ball(5, 1.0, generator=torch.Generator().manual_seed(0))


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        with atomic(target) as temporary:
            temporary.write_text("new, but")
            raise RuntimeError("half way")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_success_replaces_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old" and temporary.suffix == ".txt"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("problem", "said"),
    [(NO_SPACE, "no space left on device"), (OSError("120 requested and 7 written"), "full or faulty")],
)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, problem, said):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(Unwritten, match=f"a.txt: cannot be written .*{said}.*; free some space") as caught:
        with atomic(target) as temporary:
            temporary.write_text("new, but")
            raise problem
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    assert "\n" not in str(caught.value)


def test_what_a_folder_does_not_take_is_elsewhere_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()
    results = Results(folder)

    def write(path):
        if path.parent == folder and path.name != "c":
            raise Unwritten(path, "no space left on device")
        path.write_text(path.name)

    for name in "abc":
        results.write(name, write)
    assert [path.read_text() for path in results.paths] == ["a", "b", "c"] and results.lost == []
    (other,) = {path.parent for path in results.paths} - {folder}
    assert results.line() == f"{folder} takes no more (no space left on device): a and b are in {other}"
    results.write("d", lambda path: write(folder / path.name))
    assert results.lost == ["d"] and results.line().endswith("; d could not be written there either")

    nowhere = Results(folder)
    nowhere.write("a", lambda path: write(folder / path.name))
    assert (
        nowhere.line()
        == f"{folder} takes no more (no space left on device): a could not be written elsewhere either"
    )
    assert len(list(tmp_path.iterdir())) == 2  # No empty folder stays.


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    kept = ["a.ply", ".a.ply", ".b.0123abcd.ply", ".a.0123abcd.png", ".a.0123abc.ply"]
    for name in [*kept, ".a.0123abcd.ply"]:
        (tmp_path / name).touch()
    sweep(tmp_path / "a.ply")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    sweep(tmp_path / "none" / "a.ply")


def test_bad_folders(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"does not exist\); create it"):
        export(splats(), tmp_path / "none" / "a.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        export(splats(), tmp_path / "folder.ply")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="may not be written to"):
        export(splats(), tmp_path / "a.ply")


@pytest.mark.parametrize(("suffix", "start"), [(".ply", b"ply\n"), (".PLY", b"ply\n"), (".glb", b"glTF")])
def test_export_by_suffix(tmp_path, suffix, start):
    export(splats(), tmp_path / f"a{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)


def test_export_splat_and_comments(tmp_path):
    export(splats(), str(tmp_path / "a.splat"), comments=["ignored"])
    assert (tmp_path / "a.splat").stat().st_size == 5 * 32
    export(splats(), str(tmp_path / "a.ply"), comments=["prompt: a fox"])
    assert b"\ncomment prompt: a fox\n" in (tmp_path / "a.ply").read_bytes()
    assert len(read_ply(tmp_path / "a.ply")) == 5


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match=r"suffix '\.fbx' is unknown; choose one of ") as caught:
        export(splats(), tmp_path / "a.fbx")
    assert all(known.suffix in str(caught.value) for known in FORMATS) and "\n" not in str(caught.value)


def test_opaque_and_flat_splats_are_kept_and_endless_ones_are_not(tmp_path: Path) -> None:
    splats = ball(6, 1.0, generator=torch.Generator().manual_seed(0))
    splats.logit_opacities[0], splats.logit_opacities[1] = float("inf"), float("-inf")
    splats.log_scales[2, 1] = float("-inf")
    splats.log_scales[3, 0] = 95.0  # Finite until it is no logarithm.
    splats.quats[4] = torch.tensor([1e25, 0, 0, 0])
    with pytest.warns(UserWarning, match="dropped 1 of 6"):
        kept = finite_splats(splats, "x")
    assert len(kept) == 5
    assert kept.opacities[:2].tolist() == pytest.approx([1, 0], abs=1e-8)
    assert 0 < float(kept.scales[2, 1]) < 1e-8 and kept.quats[3].tolist() == [1, 0, 0, 0]
    for suffix in (".ply", ".splat", ".glb"):
        export(kept, tmp_path / f"a{suffix}")
    for suffix in (".splat", ".glb"):
        with pytest.warns(UserWarning, match="dropped 1 of 6"):
            export(splats, tmp_path / f"b{suffix}")
        assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()
