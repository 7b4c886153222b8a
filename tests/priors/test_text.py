"""Prompts that are embedded once, by whichever thread asks first."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from rfgs.priors.base import Condition
from rfgs.priors.text import TextSide


def test_threads_share_encoders_and_known_prompts_do_not_wait() -> None:
    """The page of a run embeds what is typed there, while the loop goes on with its own prompts."""
    loads: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def load() -> str:
        loads.append("loaded")
        return "encoders"

    def embed(encoders: str, prompts: Sequence[str]) -> Condition:
        if "slow" in prompts:
            begun.set()
            assert go_on.wait(30)
        return Condition(torch.tensor([float(len(prompt)) for prompt in prompts]).view(-1, 1, 1))

    side = TextSide(load, embed, device=torch.device("cpu"), dtype=torch.float32)
    assert side(["red"]).tokens.flatten().tolist() == [3]
    side.release()
    found: dict[str, list[float]] = {}

    def ask(prompt: str) -> None:
        found[prompt] = side([prompt, "red"]).tokens.flatten().tolist()

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in ("slow", "slow", "other")]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    assert side(["red"]).tokens.item() == 3  # While the first is still at work.
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert found == {"slow": [4, 3], "other": [5, 3]}
    assert len(loads) == 3 and side._encoders is None  # At the start, for "slow" once, and for "other".


@pytest.mark.parametrize(
    "problem", [SafetensorError("No space left on device"), OSError(28, "No space left on device")]
)
def test_a_full_disk_keeps_no_embedding_and_ends_nothing(
    problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path))

    def full(tensors: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise problem

    monkeypatch.setattr("safetensors.torch.save_file", full)
    condition = Condition(torch.ones(1, 2, 3))
    side = TextSide(
        lambda: "", lambda *_: condition, device=torch.device("cpu"), dtype=torch.float32, key="k"
    )
    assert side(["red"]).tokens.sum() == 6
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
