"""Checkpoints: what is damaged is noticed, the one before is taken, and none runs code."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rfgs.errors import UserError
from rfgs.runs.checkpoints import load_checkpoint, save_checkpoint


def content(index: int) -> dict:
    import torch

    state = {"index": index, "splats": {}, "optimizer": {}, "generator": torch.Generator().get_state()}
    return {"config": {}, "state": state, "record": {}}


def test_every_damaged_byte_of_a_checkpoint_is_noticed_and_the_one_before_taken(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, content(1))
    save_checkpoint(tmp_path, content(2))
    data = (tmp_path / "checkpoint.pt").read_bytes()

    def index() -> tuple[int, int]:
        said: list[str] = []
        found = load_checkpoint(tmp_path, said.append)
        assert found is not None
        return found["state"]["index"], len(said)

    assert index() == (2, 0)
    generator = random.Random(0)
    damaged = [data[: generator.randrange(len(data))] for _ in range(20)]
    for place in (*generator.sample(range(len(data)), 100), *range(len(data) - 40, len(data))):
        byte = data[place] ^ (1 << generator.randrange(8))
        damaged.append(data[:place] + bytes([byte]) + data[place + 1 :])
    for one in damaged:
        (tmp_path / "checkpoint.pt").write_bytes(one)
        assert index() == (1, 1)
    (tmp_path / "checkpoint.pt").unlink()  # A kill between the two renamings.
    assert index() == (1, 0)
    (tmp_path / "checkpoint-before.pt").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_of_a_version_without_checksums(tmp_path: Path) -> None:
    import torch

    torch.save(content(3), tmp_path / "checkpoint.pt")
    found = load_checkpoint(tmp_path)
    assert found is not None and found["state"]["index"] == 3


def test_a_checkpoint_of_a_version_with_other_parts_is_refused_in_a_line(tmp_path: Path) -> None:
    import torch

    older = content(3)
    older["state"]["optimiser"] = older["state"].pop("optimizer")
    torch.save(older, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="cannot be read; start the run again"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    import torch

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state": Harmful()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "touched").exists()
