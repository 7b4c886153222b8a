"""T3Bench's protocol: against itself written out naively, over a table that is resumed, and at the command line."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from rfgs.cli.main import main
from rfgs.errors import UserError
from rfgs.export import write_ply
from rfgs.measure import t3assets, t3bench, t3work
from rfgs.measure.captions import points
from rfgs.measure.rows import read_rows
from rfgs.render import render
from rfgs.render.cameras import Cameras
from rfgs.splats import Splats, ball

PROMPT = "a red cube"


def colored_ball() -> Splats:
    splats = ball(60, radius=0.7, generator=torch.Generator().manual_seed(0), opacity=0.8)
    splats.sh0 = torch.randn(60, 1, 3, generator=torch.Generator().manual_seed(1))
    return splats


def toy(pictures: Tensor, prompt: str) -> Tensor:
    """Any function of the pictures that no symmetry leaves as it is, and of the prompt."""
    height, width = pictures.shape[-2:]
    across = torch.linspace(-1, 1, width) + 0.3 * torch.linspace(-1, 1, height)[:, None]
    return (pictures * torch.tensor([1.0, -2, 0.5])[:, None, None] * across).mean((1, 2, 3)) * 40 - len(
        prompt
    ) / 50


def naive_quality(splats: Splats, prompt: str, size: int) -> float:
    """The published steps, one after another, with trimesh's sphere and poses as OpenGL has them."""
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=2.2)
    scores = []
    for vertex in np.asarray(sphere.vertices):
        back = vertex / np.linalg.norm(vertex)
        up = np.array([0.0, 0, 1]) if abs(back[2]) < 0.99 else np.array([0.0, 1, 0])
        right = np.cross(up, back)
        right /= np.linalg.norm(right)
        to_world = np.eye(4)
        to_world[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
        to_world[:3, 3] = vertex
        view = np.diag([1.0, -1, -1, 1]) @ np.linalg.inv(to_world)  # OpenCV looks along +Z, with Y down.
        lenses = []
        for field in (np.pi / 3, np.pi / 4, np.pi / 5, np.pi / 6, np.pi / 7.5):
            focal = size / 2 / np.tan(field / 2)
            lenses.append([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
        cameras = Cameras(
            torch.tensor(view).float().expand(5, 4, 4), torch.tensor(lenses).float(), size, size
        )
        shown = np.rint(render(splats, cameras).rgb.numpy().clip(0, 1) * 255).astype(np.uint8) / 255
        scores.append(max(float(toy(torch.tensor(picture)[None].float(), prompt)[0]) for picture in shown))
    for _ in range(3):
        scores = [
            (scores[v] + sum(scores[n] for n in sphere.vertex_neighbors[v]))
            / (len(sphere.vertex_neighbors[v]) + 1)
            for v in range(len(scores))
        ]
    return max(scores) * 20 + 50


def test_quality_is_that_of_the_protocol_written_out() -> None:
    splats = colored_ball()
    scores = t3bench.score_views(splats, PROMPT, toy, size=48)
    assert scores.shape == (162, 5)
    assert t3bench.quality(scores) == pytest.approx(naive_quality(splats, PROMPT, 48), abs=2e-3)
    # The scorer tells views apart, or the comparison would say nothing.
    assert (
        scores.std() > 0.05
        and abs(float(scores.mean()) - float(toy(torch.zeros(1, 3, 4, 4), PROMPT))) > 0.001
    )


def test_a_missing_asset_counts_as_black_pictures() -> None:
    black = float(toy(torch.zeros(1, 3, 48, 48), PROMPT))
    asked = []

    def counted(pictures: Tensor, prompt: str) -> Tensor:
        asked.append(len(pictures))
        return toy(pictures, prompt)

    scores = t3bench.score_views(None, PROMPT, counted, size=48)
    assert t3bench.quality(scores) == pytest.approx(20 * black + 50, abs=1e-4)
    assert asked == [1]


def test_captions_are_of_twelve_views_from_afar() -> None:
    cameras = t3bench.caption_views(32)
    assert len(cameras) == 12
    torch.testing.assert_close(cameras.positions.norm(dim=1), torch.full((12,), 4.84))


def test_fit_centers_and_scales_as_for_meshes() -> None:
    splats = colored_ball()
    far = Splats(**{**splats.parameters(), "means": splats.means * 3 + torch.tensor([5.0, 0, -2])})
    fitted = t3bench.fitted(far)
    assert float(fitted.means.abs().max()) == pytest.approx(1, abs=1e-5)
    weights = fitted.opacities[:, None]
    torch.testing.assert_close(
        (weights * fitted.means).sum(0) / weights.sum(), torch.zeros(3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(t3bench.fitted(splats).means, fitted.means, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("answer", [torch.zeros(2), torch.full((15,), torch.nan)])
def test_a_scorer_that_answers_otherwise_is_told(answer: Tensor) -> None:
    with pytest.raises(UserError, match="finite number for each picture"):
        t3bench.score_views(colored_ball(), PROMPT, lambda pictures, prompt: answer, size=16)


@pytest.mark.parametrize(
    ("answer", "expected"), [("4", 4), ("Number: 5.", 5), ("I'd say 3 of 5", 3), ("none", None), ("9", None)]
)
def test_points_are_read_from_the_answer(answer: str, expected: int | None) -> None:
    asked = []

    def judge(question: str) -> str:
        asked.append(question)
        return '"a cube"' if len(asked) == 1 else answer

    given = points(torch.zeros(2, 3, 4, 4), PROMPT, lambda pictures: ["one", "two"], judge)
    assert given == (expected, "a cube")
    assert "View 2: two" in asked[0] and PROMPT not in asked[0] and PROMPT in asked[1]


def runs(folder: Path, *prompts: str) -> Path:
    """A folder with a run for each prompt."""
    for number, prompt in enumerate(prompts):
        made = folder / str(number)
        made.mkdir(parents=True)
        job = {"prompt": prompt, "model": "tiny-sd3", "guidance": "rfds", "seed": number}
        (made / "run.json").write_text(json.dumps({"job": job}))
        write_ply(colored_ball(), made / "splats.ply")
    return folder


def sets(folder: Path, **prompts: Sequence[str]) -> Path:
    folder.mkdir()
    for name, lines in prompts.items():
        (folder / f"prompt_{name}.txt").write_text("\n".join(lines) + "\n\n")
    return folder


def test_a_table_is_gone_on_with(tmp_path: Path) -> None:
    prompts = t3assets.read_sets(
        sets(tmp_path / "sets", multi=["two cubes"], single=["A red cube ", "a fox"])
    )
    assert list(prompts) == ["single", "multi"]
    source = runs(tmp_path / "runs", PROMPT, "two cubes", "a red cube")
    chosen = t3assets.chosen(t3assets.find_assets(source), prompts)
    assert [asset.seed for asset in chosen["tiny-sd3:rfds"]["single"]] == [
        0,
        0,
    ]  # The lower seed, and a lack.
    asked = []

    def broken_off(pictures: Tensor, prompt: str) -> Tensor:
        asked.append(prompt)
        if prompt == "two cubes":
            raise KeyboardInterrupt
        return toy(pictures, prompt)

    def whole(pictures: Tensor, prompt: str) -> Tensor:
        asked.append(prompt)
        return toy(pictures, prompt)

    table = tmp_path / "t3bench.jsonl"
    with pytest.raises(KeyboardInterrupt):
        t3work.judge_all(chosen, t3work.Means(broken_off, "toy", size=16), table)
    assert set(asked) == {"A red cube", "a fox", "two cubes"}
    asked.clear()
    means = t3work.Means(whole, "toy", size=16)
    t3work.judge_all(chosen, means, table)
    assert set(asked) == {"two cubes"}
    asked.clear()
    said: list[str] = []
    t3work.judge_all(chosen, means, table, said.append)
    assert not asked and not said
    expected = [
        t3bench.quality(t3bench.score_views(splats, prompt, toy, size=16))
        for splats, prompt in ((colored_ball(), "A red cube"), (None, "a fox"))
    ]
    assert f"| {sum(expected) / 2:.1f} " in t3work.report(chosen, means, table)
    assert "1 of 3" in t3work.report(chosen, means, table)
    # Another scorer's rows are not taken for its own.
    t3work.judge_all(chosen, t3work.Means(whole, "another", size=16), table)
    assert len(set(asked)) == 3


def test_two_processes_judge_no_asset_twice(tmp_path: Path) -> None:
    source = runs(tmp_path / "runs", PROMPT, "two cubes")
    assets = t3assets.find_assets(source)
    chosen = t3assets.chosen(assets, t3assets.own_prompts(assets))
    table, asked = tmp_path / "t3bench.jsonl", list[tuple[str, str]]()

    def first(pictures: Tensor, prompt: str) -> Tensor:
        asked.append(("first", prompt))
        if (
            "second",
            "two cubes",
        ) not in asked:  # Another process starts while this one is at its first asset.
            t3work.judge_all(chosen, t3work.Means(second, "toy", size=16), table)
            left = t3work.report(chosen, t3work.Means(second, "toy", size=16), table)
            assert "1 of 2 not judged yet" in left
        return toy(pictures, prompt)

    def second(pictures: Tensor, prompt: str) -> Tensor:
        asked.append(("second", prompt))
        return toy(pictures, prompt)

    means = t3work.Means(first, "toy", size=16)
    t3work.judge_all(chosen, means, table)
    assert set(asked) == {("first", PROMPT), ("second", "two cubes")}
    assert len(read_rows(table)) == 2 and "not judged" not in t3work.report(chosen, means, table)


def test_an_asset_that_cannot_be_read_counts_as_missing(tmp_path: Path) -> None:
    source = runs(tmp_path / "runs", PROMPT)
    (source / "0" / "splats.ply").write_bytes(b"no splats")
    assets = t3assets.find_assets(source)
    chosen = t3assets.chosen(assets, t3assets.own_prompts(assets))
    said: list[str] = []
    means = t3work.Means(toy, "toy", size=16)
    t3work.judge_all(chosen, means, tmp_path / "t3bench.jsonl", said.append)
    assert said[0].startswith("counts as missing: ")
    black = 20 * float(toy(torch.zeros(1, 3, 16, 16), PROMPT)) + 50
    assert f"| {black:.1f} " in t3work.report(chosen, means, tmp_path / "t3bench.jsonl")


OWN = """
def score(pictures, prompt):
    return pictures.mean((1, 2, 3)) * 10

def captions(pictures):
    return ["a cube"] * len(pictures)

def judge(question):
    return "4" if question.endswith("Number:") else "a cube"
"""


def test_the_command_judges_assets_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t3_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    write_ply(colored_ball(), tmp_path / "mine.ply")
    (tmp_path / "others.tsv").write_text(f"{PROMPT}\tmine.ply\n")
    command = ["t3bench", str(tmp_path / "others.tsv"), "--device", "cpu", "--scorer", "t3_own:score"]
    monkeypatch.setattr(t3work, "Means", functools.partial(t3work.Means, size=16))
    main([*command, "--captioner", "t3_own:captions", "--judge", "t3_own:judge"])
    shown = capsys.readouterr().out
    assert "| others  |" in shown and "not comparable to published figures" in shown and "| 75.0" in shown
    assert (tmp_path / "t3bench.md").read_text().strip() in shown
    main(command)
    assert "Alignment: left out; it needs --captioner and --judge." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: no such folder or table"),
        (["."], "has no assets"),
        (["runs", "--prompts", "nowhere"], "--prompts nowhere: has no prompt_single.txt"),
        (["runs", "--scorer", "nowhere"], "has no ImageReward.pt"),
        (["runs", "--scorer", "no_such:thing"], "--scorer no_such:thing: cannot be imported"),
        (["runs", "--judge", "nowhere"], "alignment needs --captioner and --judge"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "runs" in arguments:
        runs(tmp_path / "runs", PROMPT)
    with pytest.raises(SystemExit) as ended:
        main(["t3bench", *arguments, "--device", "cpu"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
