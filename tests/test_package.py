"""What a wheel holds, and what importing and asking for help costs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "numpy", "diffusers", "transformers", "numba", "viser", "gsplat", "PIL"}


def imported_by(script: str) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded after `script`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}\nprint('loaded', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return HEAVY & set(done.stdout.splitlines()[-1].split())


def test_importing_is_light() -> None:
    assert imported_by("import rfgs") == set()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["generate", "--help"], ["--version"], ["doctor"], ["doctor", "--cards"]],
    ids=" ".join,
)
def test_help_is_light(arguments: list[str]) -> None:
    script = (
        "from rfgs.cli.main import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as exit_:\n    assert not exit_.code"
    )
    assert imported_by(script) == set()


def test_every_flag_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from rfgs.cli.main import main

    for command in ("generate", "view", "export", "warmup", "doctor"):
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0
        # A flag's text stands to its right or below it, before the next flag.
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        flags = re.split(r" (?=--[a-z])(?!--no-)", text.split(" options ", 1)[1])
        for flag in flags[1:]:
            assert re.search(r"[a-z]{2,} [a-z]{1,}", flag.split("(default", 1)[0]), f"{command}: {flag}"


def test_readme_commands_are_those_of_ci() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    command = ci.splitlines()[-1]
    assert command.startswith("./setup.sh --dev && ") and f"    {command}\n" in readme
    assert "    ./setup.sh && .venv/bin/rfgs generate " in readme


def tracked() -> list[str]:
    """The files of the repository, by their paths."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of the repository's files")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [name for name in listed.split("\0") if (ROOT / name).is_file()]


MADE_UP = [
    "assets/some-model/unet/weights.safetensors",
    "assets/docs/picture.png",
    "assets/docs/deep/picture.png",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel built from the repository's files and those of MADE_UP."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked() + MADE_UP:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if name in MADE_UP:
            (source / name).touch()
        else:
            shutil.copy(ROOT / name, source / name)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_a_wheel_holds_all_modules_and_assets_and_nothing_else(wheel: list[str]) -> None:
    expected = {"rfgs/assets/some-model/unet/weights.safetensors"}
    for name in tracked():
        if name.startswith("rfgs/"):
            expected.add(name)
        elif name.startswith(("cli/", "assets/")) and not name.startswith("assets/docs/"):
            expected.add(f"rfgs/{name}")
    assert {name for name in wheel if ".dist-info/" not in name} == expected
