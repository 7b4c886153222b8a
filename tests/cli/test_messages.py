"""Every slip of the user is one line on stderr with the value and the remedy, exit code 2, before any heavy import.

The messages are written out here, so that a change of wording is seen and meant.
"""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rfgs.cli import checks
from rfgs.cli.main import main
from rfgs.models import machine
from rfgs.models.catalog import BACKENDS
from rfgs.models.cuda import GSPLAT_INSTALL
from rfgs.models.words import Knowledge

NAMES = ", ".join(backend.name for backend in BACKENDS)
FORMATS = (
    ".ply, .compressed.ply, .splat, .spz, .sog, .glb, .obj, .mesh.ply, .mesh.glb, .mp4, .gif, .png, .html"
)

MESSAGES = {
    ("generate",): (
        'the prompt is empty; say what to make, as in: rfgs generate "a red cube on a blue cylinder"'
    ),
    ("generate", "  "): (
        'the prompt is empty; say what to make, as in: rfgs generate "a red cube on a blue cylinder"'
    ),
    ("generate", "x", "--backend", "tyni-sd3"): (
        "--backend tyni-sd3: no such backend, there are "
        + NAMES
        + " (did you mean tiny-sd3?); weights of your own are named with --model FOLDER"
    ),
    ("generate", "x", "--backend", "kandinsky"): (
        "--backend kandinsky: no such backend, there are " + NAMES + "; "
        "weights of your own are named with --model FOLDER"
    ),
    (
        "generate",
        "x",
        "--start",
        "none.obj",
    ): "--start none.obj: no such file; give splats, a mesh, a cloud of points or the folder of a run",
    ("generate", "x", "--steps", "0"): "--steps 0: has to be a whole number of at least 1; try --steps 420",
    (
        "generate",
        "x",
        "--steps",
        "-5",
        "--quality",
        "draft",
    ): "--steps -5: has to be a whole number of at least 1; try --steps 110",
    (
        "generate",
        "x",
        "--views-per-step",
        "0",
    ): "--views-per-step 0: has to be a whole number of at least 1; try --views-per-step 4",
    (
        "generate",
        "x",
        "--splats",
        "0",
    ): "--splats 0: has to be a whole number of at least 1; try --splats 3000",
    ("generate", "x", "--resolution", "100"): (
        "--resolution 100: has to be a multiple of 8 and at least 32; try --resolution 96"
    ),
    ("generate", "x", "--resolution", "0"): (
        "--resolution 0: has to be a multiple of 8 and at least 32; try --resolution 32"
    ),
    ("generate", "x", "--guidance", "vsd"): (
        "--guidance vsd: is defined for diffusion models, and tiny-sd3 is none; use --guidance rfds or rfds-rev or "
        "rfds-vsd, or another model such as --backend tiny-sd or sd15"
    ),
    ("generate", "x", "--guidance", "rfds", "--set", "inner_steps=2"): (
        "--set inner_steps=2: only rfds-rev can use it; leave it out with --guidance rfds"
    ),
    ("generate", "x", "--set", "inner_steps=0"): (
        "--set inner_steps=0: has to be a whole number from 1 to 1000; try --set inner_steps=1"
    ),
    ("generate", "x", "--inner-steps", "2"): (
        "--inner-steps: is given as --set inner_steps=VALUE; `rfgs settings` lists all that can be"
    ),
    ("generate", "x", "--lr-means=2"): (
        "--lr-means: is given as --set lr_means=VALUE; `rfgs settings` lists all that can be"
    ),
    ("generate", "x", "--set", "noise_rang=0.1,0.9"): (
        "--set noise_rang=0.1,0.9: there is no setting noise_rang; did you mean noise_range?"
    ),
    ("generate", "x", "--set", "noise_range=0.9,0.1"): (
        "--set noise_range=0.9,0.1: has to be two numbers from 0 to 1, the smaller one first; "
        "try --set noise_range=0.15,0.98"
    ),
    ("generate", "x", "--set", "guidance=rfds"): (
        "--set guidance=rfds: guidance is given without --set, as `rfgs generate --help` shows"
    ),
    ("generate", "x", "--set", "steps"): "--set steps: is not NAME=VALUE",
    ("generate", "x", "--guidance", "ism"): (
        "guidance 'ism': there are rfds, rfds-rev, rfds-vsd, sds, vsd, and module:Class for one of your own"
    ),
    ("generate", "x", "--guidance", "not_there:Guide"): (
        "guidance not_there:Guide: cannot be imported (No module named 'not_there'); is its folder on PYTHONPATH?"
    ),
    ("generate", "x", "--guidance", "json:loads"): (
        "guidance json:loads: is not a subclass of rfgs.guidance.Guide that says its kind"
    ),
    ("image", "x", "--set", "lora_rank=2"): (
        "--set lora_rank=2: only rfds-vsd and vsd can use it; leave it out with --guidance rfds-rev"
    ),
    ("generate", "x", "--guidance-scale", "-1"): (
        "--guidance-scale -1: has to be a number of at least 0; try --guidance-scale 7.5"
    ),
    ("generate", "x", "--guidance-scale", "nan"): (
        "--guidance-scale nan: has to be a number of at least 0; try --guidance-scale 7.5"
    ),
    ("generate", "x", "--guidance-scale", "inf"): (
        "--guidance-scale inf: has to be a number of at least 0; try --guidance-scale 7.5"
    ),
    ("generate", "x", "--seed", "-1"): "--seed -1: has to be a whole number from 0 to 2^63 - 1; try --seed 0",
    ("generate", "x", "--port", "65536"): "--port 65536: has to be from 0 to 65535; try --port 8080",
    ("generate", "x", "--model", "./nothing"): (
        "--model ./nothing: no such folder; give a folder in diffusers' layout (the one that holds "
        "model_index.json) or a hub id (owner/name)"
    ),
    ("generate", "x", "--model", "models/sd3.safetensors"): (
        "--model models/sd3.safetensors: no such file; give a file (.safetensors, .gguf), a folder in diffusers' layout, "
        "or a hub id"
    ),
    ("image", "x", "--parts", "models/sd3"): (
        "--parts models/sd3: is for what a single file lacks, and --model names none; leave it out"
    ),
    ("generate", "x", "--model", "."): (
        "--model .: no model_index.json in it, so it is not a model; give a folder in diffusers' layout "
        "(the one that holds model_index.json) or a hub id (owner/name)"
    ),
    ("generate", "x", "--t5", "8bit"): (
        "--t5 8bit: bitsandbytes computes on an NVIDIA GPU, and this run is on the CPU; use --t5 keep or --t5 drop"
    ),
    ("generate", "x", "--backend", "flux-schnell", "--t5", "drop"): (
        "--t5 drop: black-forest-labs/FLUX.1-schnell reads prompts with T5 alone; use --t5 keep or --t5 8bit"
    ),
    ("image", "x", "--backend", "flux-schnell", "--t5", "drop"): (
        "--t5 drop: black-forest-labs/FLUX.1-schnell reads prompts with T5 alone; use --t5 keep or --t5 8bit"
    ),
    ("generate", "x", "--backend", "flux-dev", "--offload"): (
        "--offload: this run is on the CPU, where all weights are anyway; leave it out"
    ),
    ("generate", "--offload", "--resume", "nowhere"): (
        "--resume nowhere: goes on with that run's own settings, so --offload cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    ("generate", "--resume", "nowhere", "--guidance", "rfds-rev"): (
        "--resume nowhere: goes on with that run's own settings, so --guidance cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    ("generate", "--resume", "nowhere", "--guidance=auto"): (
        "--resume nowhere: goes on with that run's own settings, so --guidance cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    ("generate", "--resume", "nowhere", "--steps", "9", "--set", "inner_steps=1"): (
        "--resume nowhere: goes on with that run's own settings, so --set cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    ("generate", "--resume", "nowhere"): (
        "nowhere: holds no run (run.json is missing or damaged); give the folder of one, such as those in runs/"
    ),
    ("generate", "x", "--resume", "nowhere"): (
        "--resume nowhere: goes on with that run's own settings, so a prompt cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    ("generate", "--seed", "3", "--resume", "nowhere"): (
        "--resume nowhere: goes on with that run's own settings, so --seed cannot be given; "
        "leave it out, or start a new run without --resume"
    ),
    (
        "view",
    ): "nothing to look at; name a file of splats (.ply) or the folder of a run, such as those in runs/",
    (
        "view",
        "nothing.ply",
    ): "nothing.ply: no such file; give a file of splats (.ply) or the folder of a run",
    ("view", "."): ".: holds no splats.ply; give a file of splats (.ply) or the folder of a run",
    (
        "export",
        ".",
        "out.glb",
    ): ".: holds no splats.ply; give a file of splats (.ply) or the folder of a run",
    (
        "export",
        "nothing.ply",
        "out.glb",
    ): "nothing.ply: no such file; give a file of splats (.ply) or the folder of a run",
    ("export", "run", "out.fbx"): f"out.fbx: no known format; end the name with one of {FORMATS}",
    ("export", "run", "out.glb", "--up", "+y"): (
        "out.glb: 'up' is for .ply, and .glb has no such choice; leave it out"
    ),
    ("export", "run/splats.ply", "run/splats.ply"): (
        "run/splats.ply: exists already; choose another name, or replace it with --overwrite"
    ),
    (
        "export",
        "run/splats.ply",
        "no/out.glb",
    ): "no/out.glb: there is no folder no; create it or choose another",
}


REFUSALS = {
    ("generate", "a shiny red horse"): "",
    ("generate", "a horse", "--guidance", "rfds", "--negative-prompt", "a dragon"): "",
    ("image", "a horse on a cube, front view"): "",
    ("invert", "photo.png", "--prompt", "a horse"): "",
    ("edit", "photo.png", "--from", "a cube", "--to", "a horse"): "--to: ",
    ("edit", "photo.png", "--from", "a horse", "--to", "a dragon"): "--from: ",
    ("bench", "--columns", "tiny-sd3:rfds"): 'prompt "a horse": ',
}
"""What comes before the line that says what a horse is to the default model."""


@pytest.mark.parametrize("arguments", REFUSALS, ids=" ".join)
def test_a_thing_that_the_model_has_never_seen(
    arguments: tuple[str, ...],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.new("RGB", (4, 4)).save("photo.png")
    monkeypatch.setattr("rfgs.measure.plan.read_prompts", lambda *_: {"single": ["a red cube", "a horse"]})
    before = sorted(here.rglob("*"))
    told = message_of(arguments, capsys)
    assert told == REFUSALS[arguments] + Knowledge.of("tiny-sd3").refusal("horse")
    assert re.match(r'.*"horse" is not among the \d\d things that tiny-sd3 knows; ', told)
    assert sorted(here.rglob("*")) == before


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder but for run/splats.ply."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splats.ply").write_bytes(b"")
    return tmp_path


def message_of(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert err.startswith("rfgs: ") and err.endswith("\n") and err.count("\n") == 1
    return err[len("rfgs: ") : -1]


@pytest.mark.parametrize("arguments", MESSAGES, ids=" ".join)
def test_message(arguments: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert message_of(arguments, capsys) == MESSAGES[arguments]


def test_output(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfgs.models.available.find_model", lambda backend, model, **_: "tiny-sd3")
    taken = "choose another folder, replace what a run writes with --overwrite, or go on with an unfinished run with"
    (here / "old").mkdir()
    (here / "old" / "run.json").write_text("{}")
    expected = {
        "old": f"--output old: already holds a run; {taken} --resume",
        "run": f"--output run: is not empty; {taken} --resume",
        "run/splats.ply": "--output run/splats.ply: has to be a folder, not a file; try --output run/splats",
        "old/run.json": "--output old/run.json: is a file; choose a folder",
        "old/run.json/x": (
            "--output old/run.json/x: cannot be written (not a directory); choose another folder with --output"
        ),
        # No folder can be made there, not even by root.
        "/proc/rfgs": (
            "--output /proc/rfgs: cannot be written (no such file or directory); choose another folder with --output"
        ),
    }
    for output, message in expected.items():
        assert message_of(("generate", "cube", "--output", output), capsys) == message
    assert sorted(path.name for path in here.iterdir()) == ["old", "run"]


def test_device(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = ("generate", "x", "--device", "cuda")
    monkeypatch.setattr(machine, "version", lambda library: "2.13.0")
    monkeypatch.setattr(machine, "gpus", lambda: [])
    assert message_of(cuda, capsys) == (
        "--device cuda: no NVIDIA GPU or driver is visible (nvidia-smi should list one); check the driver, "
        "or use --device cpu"
    )
    assert checks.check_device("auto") == "cpu" and capsys.readouterr().err == ""
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("a GPU", 2**34)])
    monkeypatch.setattr(machine, "torch_cuda", lambda: None)
    assert message_of(cuda, capsys) == (
        "--device cuda: torch 2.13.0 is a CPU build; install one for CUDA with "
        "`pip install --force-reinstall torch`, or use --device cpu"
    )
    assert checks.check_device("auto") == "cpu" and "torch 2.13.0 is a CPU build" in capsys.readouterr().err
    monkeypatch.setattr(machine, "torch_cuda", lambda: "12.8")
    monkeypatch.setattr(machine, "gsplat_state", lambda: "no compiler")
    without_toolkit = (
        "gsplat has to compile its kernels and no CUDA toolkit (nvcc) is found; install the toolkit for CUDA 12.8 "
        f"and set CUDA_HOME, install a pre-built gsplat ({GSPLAT_INSTALL}), or use --device cpu"
    )
    assert message_of(cuda, capsys) == f"--device cuda: {without_toolkit}"
    assert checks.check_device("auto") == "cpu"
    why = without_toolkit.removesuffix(", or use --device cpu")
    assert capsys.readouterr() == ("", f"rfgs: --device auto takes the CPU: {why}\n")
    # Pictures are not rendered.
    assert checks.check_device("auto", renders=False) == checks.check_device("cuda", renders=False) == "cuda"
    monkeypatch.setattr(machine, "gsplat_state", lambda: "to be compiled")
    monkeypatch.setattr(machine, "nvcc", lambda: "/cuda/bin/nvcc")
    monkeypatch.setattr(machine, "nvcc_version", lambda path: "13.0")
    assert message_of(cuda, capsys) == (
        "--device cuda: torch is built for CUDA 12.8 but /cuda/bin/nvcc is 13.0, so gsplat cannot compile; "
        f"install the toolkit for CUDA 12.8 and set CUDA_HOME, install a pre-built gsplat ({GSPLAT_INSTALL}), or use --device cpu"
    )
    monkeypatch.setattr(machine, "nvcc_version", lambda path: "12.4")
    assert checks.check_device("auto") == "cuda"


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend.gated], ids=lambda b: b.name)
def test_gated_model(
    backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(checks, "check_device", lambda choice, **_: "cpu")
    assert message_of(("generate", "x", "--backend", backend.name), capsys) == (
        f"{backend.hub_id}: its weights are gated; accept the license at https://huggingface.co/{backend.hub_id}, "
        "then log in with `hf auth login` (or set HF_TOKEN), or use a local copy with --model FOLDER"
    )


PARSING = {
    ("generate", "x", "--steps", "many"): "Error parsing --steps: 'many' is not a whole number",
    ("generate", "x", "--guidance-scale", "high"): "Error parsing --guidance-scale: 'high' is not a number",
    ("generate", "x", "--setps", "3"): "--steps N Number of optimization steps.",
    ("generat", "x"): "Available subcommands: generate, studio, batch, view, export, warmup",
    ("export", "a.ply"): "OUT",
}


@pytest.mark.parametrize("arguments", PARSING, ids=" ".join)
def test_what_cannot_be_parsed(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert PARSING[arguments] in " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    {
        ("generate", "x", "--model", "./nothing"): "rfgs: --model ./nothing: no such folder",
        ("generate", "a horse"): 'rfgs: "horse" is not among the',
        ("image", "a horse"): 'rfgs: "horse" is not among the',
    }.items(),
)
def test_nothing_heavy_is_imported_before_a_message(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from rfgs.cli.main import main\n"
        f"try:\n    main({arguments})\n"
        "except SystemExit as exit_:\n    assert exit_.code == 2\n"
        "print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'numba', 'viser'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n" and done.stderr.startswith(told)


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(checks, "check_port", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["generate", "x"])


def test_ctrl_c_outside_the_loop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "check_port", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["generate", "x"])
    assert exit_.value.code == 130 and capsys.readouterr().err == "rfgs: interrupted\n"


@pytest.mark.parametrize("name", ["/mnt/full/a.txt", None])
def test_a_disk_that_fails_where_nobody_looks_is_a_line_too(
    name: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr("rfgs.cli.settings.Settings.run", full)
    with pytest.raises(SystemExit, match="2"):
        main(["settings"])
    where = f"{name}: " if name else ""
    assert capsys.readouterr().err == f"rfgs: {where}no space left on device; mend that, and try again\n"


def test_bytes_of_another_encoding_are_no_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    typed = b"a caf\xe9".decode(
        errors="surrogateescape"
    )  # As a terminal in Latin-1 hands it to a program in UTF-8.
    for command in (("generate", typed), ("image", typed)):
        told = message_of(command, capsys)
        assert told == '"a caf\\udce9": is not text in this terminal\'s encoding; type it again'


def test_a_home_that_no_shell_has_put_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text("{}")
    for flags in (("--output=~/old",), ("--output", "~/old")):
        assert message_of(("generate", "cube", *flags), capsys).startswith(
            f"--output {tmp_path}/old: already holds"
        )
    assert not (tmp_path / "~").exists()
