"""What a wheel holds, and what importing and asking for help costs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rfgs.models import embedded

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
    ("outside", "expected"),
    [({}, "passive 1000"), ({"OMP_WAIT_POLICY": "active"}, "active None")],
    ids=["unset", "set"],
)
def test_only_the_program_says_how_threads_wait(outside: dict[str, str], expected: str) -> None:
    """Neither importing the package nor calling a command from Python changes anything for the process."""
    script = """
import os, sys
from rfgs.cli.main import main

def policy():
    print("policy", os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))

main(["--version"])
policy()
sys.argv = ["rfgs", "--version"]
main()
policy()
"""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=clean | outside,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    before = f"policy {outside.get('OMP_WAIT_POLICY')} None"
    assert [line for line in said if line.startswith("policy")] == [before, f"policy {expected}"]


def test_help_is_light() -> None:
    """One process for all: what any of them loads is found, and which one it was is told."""
    script = f"""
from rfgs.cli.main import main

for arguments in ("", "--help", "generate --help", "--version", "doctor", "doctor --cards"):
    try:
        main(arguments.split())
    except SystemExit as exit_:
        assert not exit_.code
    assert not {HEAVY} & sys.modules.keys(), arguments
"""
    assert imported_by(script) == set()


def test_help_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typing import get_args

    from rfgs.cli.main import Command, main

    monkeypatch.setenv("COLUMNS", "80")
    names = [named.name for _, named in map(get_args, get_args(Command))]
    assert len(names) > 10
    for words in [[], *([name] for name in names)]:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        said = capsys.readouterr().out
        assert [line for line in said.splitlines() if len(line) > 80] == [], words
        assert "\n\n\n" not in said and f"usage: rfgs {' '.join(words)}" in said
        assert words or all(f" {name} " in said for name in names)


def test_every_flag_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from rfgs.cli.main import main

    for command in ("generate", "view", "export", "warmup", "doctor"):
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0
        # A flag's text stands to its right or below it, before the next flag.
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        flags = re.split(r" (?=--[a-z])(?!--no-|--quality\.)", text.split(" options ", 1)[1])
        for flag in flags[1:]:
            assert re.search(r"[a-z]{2,} [a-z]{1,}", flag.split("(default", 1)[0]), f"{command}: {flag}"


def test_readme_commands_are_those_of_ci() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    command = ci.splitlines()[-1]
    assert command.startswith("./setup.sh --dev && ") and f"    {command}\n" in readme
    # And those of whoever changes something, who sets up once.
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"\n    {part}  " in contributing for part in command.split(" && "))
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
    "assets/tiny-sd3/new/weights.safetensors",
    "assets/tiny-sd/new/weights.safetensors",
    "assets/docs/deep/picture.png",
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The names of the files in the wheels of rfgs and rfgs-models, built from the repository's files and MADE_UP."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in tracked() + MADE_UP:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if name in MADE_UP:
            (source / name).touch()
        else:
            shutil.copy(ROOT / name, source / name)
    found = {}
    # The models first, so that what building them leaves in assets/ could get into the other wheel.
    for wheel, folder in (("rfgs_models", source / "assets"), ("rfgs", source)):
        out = tmp_path_factory.mktemp("wheel")
        build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, check=True)
        (path,) = out.glob(f"{wheel}-*.whl")
        names = zipfile.ZipFile(path).namelist()
        found[wheel] = [name for name in names if ".dist-info/" not in name]
    return found


def test_two_wheels_hold_all_modules_and_assets_and_nothing_else(wheels: dict[str, list[str]]) -> None:
    expected: dict[str, set[str]] = {"rfgs": set(), "rfgs_models": {"rfgs_models/__init__.py"}}
    for name in tracked() + MADE_UP:
        if name.startswith(tuple(f"assets/{folder}/" for folder in embedded.BESIDE)):
            expected["rfgs_models"].add(name.replace("assets/", "rfgs_models/", 1))
        elif name.startswith(("rfgs/", "cli/", "assets/")) and not name.startswith("assets/docs/"):
            expected["rfgs"].add(name if name.startswith("rfgs/") else f"rfgs/{name}")
    expected["rfgs"].remove("rfgs/assets/pyproject.toml")
    assert {wheel: set(names) for wheel, names in wheels.items()} == expected


def imports(*folders: str) -> set[str]:
    """The libraries, by the names under which they are installed, that the modules in folders of the repository import."""
    found: set[str] = set()
    # Programs in bench/ import their neighbors.
    own = {"rfgs", "tests", "training", "bench"} | {file.stem for file in (ROOT / "bench").glob("*.py")}
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module))
    names = {name.split(".")[0] for name in found} - sys.stdlib_module_names - own
    return {{"PIL": "pillow", "skimage": "scikit-image"}.get(name, name.replace("_", "-")) for name in names}


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def named(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w.-]", text)[0].replace("_", "-") for text in requirements} - {"rfgs"}

    declared, training, dev = (
        named(needs) for needs in (project["dependencies"], extras["training"], extras["dev"])
    )
    # What is taken where it is installed.
    optional = named(extras["openvino"] + extras["gguf"] + extras["mesh"] + extras["ray"])
    assert imports("rfgs", "cli") == declared | optional
    # What both name, training wants newer.
    assert training <= imports("training") <= declared | training
    # These are run as programs, or by pytest.
    by_developers = imports("bench", "tests", "examples") | {"ruff", "mypy", "setuptools", "pytest-xdist"}
    assert dev <= by_developers <= declared | training | dev | optional
