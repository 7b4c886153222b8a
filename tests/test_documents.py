"""What README and the documentation show: their Python is run, their commands are read by the real command line."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro

from rfgs.errors import UserError
from rfgs.models import catalog
from rfgs.models.words import Knowledge

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.py")),
]
PLACEHOLDERS = {"PROMPT", "PATH", "PATHS", "IN", "OUT", "PHOTO", "NAME", "FOLDER", "FILE", "N", "X"}


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- Python -----------------------------------------------------------------------------------------------------------

SHORTER = {
    "steps=300": "steps=3",
    "sample(text, empty, steps=20": "sample(text, empty, steps=1",
    "num_inference_steps=20": "num_inference_steps=1",
    "turntable(8, 256, 256)": "turntable(8, 64, 64)",
    "viewer.wait()": "pass",
    'load_prior("sd3", device="cuda")': 'load_prior("tiny-sd3")',
    'load_prior("sd15", "diffusion", device="cuda")': 'load_prior("tiny-sd", "diffusion")',
}
"""What is written otherwise before it is run, so that it takes no time, no download and no GPU."""


def python_of(page: Path) -> list[str]:
    """The blocks of Python on a page. They are run one after another, as they would be read."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the blocks that are files of the reader's own: those that begin with a comment such as "# louder.py"."""
    folder = tmp_path_factory.mktemp("modules")
    for page in PAGES:
        for code in python_of(page):
            if name := re.match(r"# (\w+\.py)\n", code):
                (folder / name[1]).write_text(code)
    return folder


WITH_PYTHON = [page for page in PAGES if python_of(page)]


def given() -> dict[str, Any]:
    """What pages speak of without making it: a prompt, images, an asset, noisy latents, what a loop takes."""
    from rfgs.distill import DistillConfig, distill
    from rfgs.priors import load_prior
    from rfgs.splats import ball

    generator = torch.Generator().manual_seed(0)
    return {
        "prompt": "a red mug",
        "prompts": ["a red mug", "a blue mug"],
        "images": torch.rand(2, 3, 128, 128, generator=generator),
        "splats": ball(50, 0.5, generator=generator),
        "x_t": torch.randn(1, 16, 16, 16, generator=generator),
        "t": torch.tensor([0.5]),
        "prior": load_prior("tiny-sd3"),
        "config": DistillConfig(steps=2, guidance="rfds"),
        "generator": generator,
        "distill": distill,
    }


@pytest.mark.parametrize("page", WITH_PYTHON, ids=names)
def test_python_runs(page: Path, tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rfgs.tinyworld import truth

    # A file of the reader's own is imported, as it would be.
    blocks = [re.sub(r"(?s)\A# (\w+)\.py\n.*", r"import \1\n", code) for code in python_of(page)]
    code = "\n".join(blocks)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setattr(catalog, "BACKENDS", [*catalog.BACKENDS])
    # Two views of one size, and none kept for other tests.
    monkeypatch.setattr(truth, "VIEWS", truth.VIEWS[:2])
    monkeypatch.setattr(truth, "FRACTIONS", truth.FRACTIONS[:1])
    monkeypatch.setattr(truth, "true_views", truth.true_views.__wrapped__)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    exec(compile(code, names(page), "exec"), {"__name__": "documentation", **given()})


def test_what_is_written_otherwise_is_there() -> None:
    together = "\n".join(code for page in WITH_PYTHON for code in python_of(page))
    assert [long for long in SHORTER if long not in together] == []


# --- Commands ---------------------------------------------------------------------------------------------------------


@functools.cache
def commands() -> list[tuple[Path, list[str]]]:
    """The words of every command that a page shows, in order."""
    return list(read_commands())


def read_commands() -> Iterator[tuple[Path, list[str]]]:
    """Those in fenced and indented blocks, and in the text between backticks."""
    for page in PAGES:
        text = page.read_text()
        if page.suffix == ".py":
            shown = re.findall(r"^python .*", text, re.M)
        else:
            fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
            shown = [
                line for language, body in fences if language in ("", "bash", "sh") for line in lines(body)
            ]
            text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
            shown += lines("\n".join(re.findall(r"^    (\S.*)", text, re.M)))
            shown += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
        for line in shown:
            for part in re.sub(r"^\$ ", "", line).split("; ")[0].split(" && "):
                try:
                    words = shlex.split(part, comments=True)
                except ValueError:
                    continue  # No command: an apostrophe in what a program said.
                while words and (re.fullmatch(r"[A-Z_]+=\S+", words[0]) or words[0] == "sudo"):
                    words = words[1:]
                if words:
                    words[0] = words[0].removeprefix(".venv/bin/")
                    yield page, words


def lines(body: str) -> list[str]:
    return body.replace("\\\n", " ").splitlines()


def cases(program: str, least: int) -> list[Any]:
    """The different commands of a program, with at least so many words behind its name."""
    found = {
        tuple(words[1:]): names(page)
        for page, words in commands()
        if words[0] == program and len(words) > least and words[-1] != "--help"
    }
    return [pytest.param(list(words), id=f"{page}: {' '.join(words)}"[:100]) for words, page in found.items()]


def test_commands_that_are_only_named_exist() -> None:
    from rfgs.cli.main import main

    found = {words[1] for _, words in commands() if words[0] == "rfgs" and len(words) > 1}
    for name in found - {"--help"}:
        with pytest.raises(SystemExit) as exit_:
            main([name, "--help"])
        assert not exit_.value.code, name


def is_there(path: Path) -> bool:
    """Whether a file that a command names exists, or is one that its reader makes: in runs/, or beside him."""
    return path.parts[0] == "runs" or len(path.parts) == 1 or (ROOT / path).exists()


@pytest.mark.parametrize("words", cases("rfgs", least=2))
def test_commands_of_rfgs_are_understood(
    words: list[str], capsys: pytest.CaptureFixture[str], modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rfgs.cli.main import Command
    from rfgs.measure import given, plan

    arguments = [word for word in words if word != "..."]
    try:
        command = tyro.cli(
            Command,
            prog="rfgs",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        )
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    monkeypatch.syspath_prepend(modules)
    name = words[0]
    if name in ("generate", "image") and words != ["generate", "a horse"]:
        if command.prompt and command.prompt not in PLACEHOLDERS:
            Knowledge.of(command.backend).check({"": command.prompt})
        else:
            assert command.prompt or command.resume is not None
    if name == "bench":
        columns = plan.find_columns(command.columns) if command.columns else list(plan.COLUMNS)
        given.parse_settings(command.set, columns)
        assert command.report is None or is_there(command.report)
    for word in arguments[1:]:
        if "/" in word and not word.startswith("-"):
            assert is_there(Path(word)) or "--output" in words[words.index(word) - 1], word


def test_what_readme_shows_of_a_refusal_is_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from rfgs.cli.main import main

    shown = re.search(r"^    \$ (rfgs generate .*)\n    (rfgs: .*)", (ROOT / "README.md").read_text(), re.M)
    assert shown is not None
    with pytest.raises(SystemExit) as exit_:
        main(shlex.split(shown[1])[1:])
    assert exit_.value.code == 2 and capsys.readouterr().err.strip() == shown[2]


@functools.cache
def help_of(*arguments: str) -> str:
    """What a program of this repository says of itself: a file or `-m MODULE`, with words that come before --help."""
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as exit_,
    ):
        warnings.simplefilter("ignore")  # That a module is run which is imported already.
        patch.syspath_prepend(str(ROOT / "bench"))
        if arguments[0] == "-m":
            patch.setattr(sys, "argv", [*arguments[1:], "--help"])
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            patch.setattr(sys, "argv", [*arguments, "--help"])
            runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    assert not exit_.value.code, said.getvalue()
    return said.getvalue()


@pytest.mark.parametrize("words", cases("python", least=1))
def test_programs_are_there_and_have_the_flags(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert (ROOT / words[0]).is_file()
    flags = [word for word in words[1:] if word.startswith("--")]
    if flags and words[:2] != ["-m", "pytest"]:  # Whose help would be told by the pytest that runs this.
        before = words[: words.index(flags[0])]
        told = help_of(*before)
        for flag in flags:
            assert re.search(rf"{flag}\b(?!-)", told), f"{' '.join(words)}: no {flag}"
    for word in words[2:]:
        if "/" in word and not word.startswith("-"):
            before_it = words[words.index(word) - 1]
            assert is_there(Path(word)) or before_it in ("--output", "--target"), word


@pytest.mark.parametrize(
    "program", [file for file in (ROOT / "bench").glob("*.py") if "from tests" in file.read_text()], ids=names
)
def test_programs_that_borrow_from_the_tests_start_as_they_are_typed(program: Path, tmp_path: Path) -> None:
    words = [sys.executable, program, "--help"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not told.returncode, told.stderr


def test_scripts_are_there_and_have_the_flags() -> None:
    for page, words in commands():
        if words[0].startswith("./"):
            assert (ROOT / words[0]).is_file(), (page, words)
            for flag in words[1:]:
                assert flag in (ROOT / words[0]).read_text(), (page, words)


def test_flags_between_backticks_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of rfgs, and of the programs that the same page names."""
    from rfgs.cli.main import main

    known = {"--help", "--version", "--dev"}
    for name in (
        "generate",
        "batch",
        "studio",
        "view",
        "export",
        "warmup",
        "doctor",
        "image",
        "invert",
        "edit",
        "bench",
        "t3bench",
    ):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        known |= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        told = {
            flag
            for code in re.findall(r"`([^`]+)`", text)
            for flag in re.findall(r"(?<!\S)--[a-z][\w-]*", code)
        }
        programs = {
            tuple(words[1:2]) if words[1] != "-m" else tuple(words[1:3])
            for at, words in commands()
            if at == page and words[0] == "python" and len(words) > 1
        }
        strange = told - known
        for program in programs if strange else ():
            if program[-1].startswith(("tests.", "pytest")):
                continue
            try:
                strange -= set(re.findall(r"--[a-z][\w-]*", help_of(*program)))
            except (UserError, AssertionError):
                continue
        assert not strange, f"{names(page)}: {', '.join(sorted(strange))}"
