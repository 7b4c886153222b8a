"""`rfgs image`, `rfgs invert` and `rfgs edit`: what arrives at the library, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rfgs.cli.main import main
from rfgs.flat.jobs import EditJob, ImageJob, InvertJob
from rfgs.flat.runs import ImageResult


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, Path]]:
    """The calls of the library; the working folder has good.png and broken.png."""
    calls: list[tuple[Any, Path]] = []

    def work(job: Any, folder: Path, *, report: Any, stop: Any, **_: Any) -> ImageResult:
        calls.append((job, folder))
        report(1, 2, "step")
        assert not stop()
        (folder / "run.json").write_text("{}")
        record = {
            "seconds": {"startup": 1.0},
            "metrics": {"some_psnr": 21.5},
            "skipped": 3,
            "dtype": "float16",
        }
        return ImageResult(torch.zeros(1, 3, 1, 1), [folder / "run.json"], record)

    for name in ("make_image", "invert_photo", "edit_photo"):
        monkeypatch.setattr(f"rfgs.flat.runs.{name}", work)
    monkeypatch.setattr("rfgs.models.available.find_model", lambda backend, model, **_: model or backend.name)
    monkeypatch.setattr("rfgs.cli.checks.check_device", lambda choice, **_: "cpu")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("good.png")
    Path("broken.png").write_bytes(Path("good.png").read_bytes()[:40])
    return calls


def test_the_plain_commands(asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    main(["image", " a  red cube "])
    main(["invert", "good.png", "--prompt", "a red cube"])
    main(["edit", "good.png", "--from", "a red cube", "--to", "a blue cube"])
    assert asked == [
        (ImageJob("a red cube"), Path("runs/image-a-red-cube-0")),
        (InvertJob("good.png", "a red cube"), Path("runs/invert-good-0")),
        (EditJob("good.png", "a red cube", "a blue cube"), Path("runs/edit-good-0")),
    ]
    out, err = capsys.readouterr()
    assert out.count("  3 entries of gradients were not finite, and taken for 0; --dtype bfloat16") == 3
    assert out.count("  some psnr: 21.5\n") == 3 and "  runs/edit-good-0/run.json\n" in out
    assert "inverting good.png with tiny-sd3 on the cpu; writing to runs/invert-good-0\n" in err


def test_every_flag_arrives(asked: list) -> None:
    common = "--model /m --steps 5 --resolution 96 --seed 4 --output"
    image = "--guidance rfds --space pixels --particles 2 --guidance-scale 3 --negative-prompt bad"
    main(["image", "cube", *image.split(), *common.split(), "a"])
    main(["invert", "good.png", "--prompt", "cube", "--method", "ode", *common.split(), "b"])
    edit = "--from cube --to ball --guidance-scale 3 --strength 0.5"
    main(["edit", "good.png", *edit.split(), *common.split(), "c"])
    same = {"model": "/m", "steps": 5, "resolution": 96, "seed": 4}
    settings = {
        "steps": 5,
        "resolution": 96,
        "space": "pixels",
        "particles": 2,
        "guidance_scale": 3,
        "negative_prompt": "bad",
    }
    (first, _), (second, _), (third, folder) = asked
    assert first == ImageJob("cube", guidance="rfds", model="/m", settings=settings, seed=4)
    assert second == InvertJob("good.png", "cube", method="ode", **same)
    assert third == EditJob("good.png", "cube", "ball", guidance_scale=3, strength=0.5, **same)
    assert folder == Path("c")


def test_ways_to_load_the_model_arrive(asked: list) -> None:
    flags = "--t5 drop --dtype bfloat16 --compile".split()
    main(["image", "cube", *flags])
    main(["invert", "good.png", "--prompt", "cube", *flags])
    main(["edit", "good.png", "--from", "cube", "--to", "ball", *flags])
    for job, _ in asked:
        assert (job.t5, job.dtype, job.compile, job.offload) == ("drop", "bfloat16", True, False)


def test_unknown_words_are_remarked_on_before_the_run(
    asked: list, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "tiny-sd3 knows a small world only, and not the word"
    main(["image", "an antique cube", "--negative-prompt", "foggy"])
    assert f'{said}s "antique", "foggy"\n' in capsys.readouterr().err
    main(["invert", "good.png", "--prompt", "a horse", "--any-words"])
    assert f'{said} "horse"\n' in capsys.readouterr().err
    main(["edit", "good.png", "--from", "a horse", "--to", "a shiny cube", "--any-words"])
    assert f'{said}s "horse", "shiny"\n' in capsys.readouterr().err
    assert len(asked) == 3


def test_guidance_on_top_of_what_is_baked_in_is_remarked_on(
    asked: list, capsys: pytest.CaptureFixture[str]
) -> None:
    for scale, said in (("20", True), ("1", False)):
        main(["image", "cube", "--backend", "flux-schnell", "--guidance-scale", scale])
        edit = ["edit", "good.png", "--from", "a cube", "--to", "a ball", "--backend", "flux-dev"]
        main([*edit, "--guidance-scale", scale])
        err = capsys.readouterr().err
        assert err.count("with guidance baked in: a scale of 20 comes on top") == 2 * said
    assert len(asked) == 4


def test_details_of_the_guidance_arrive(asked: list) -> None:
    main("image cube --guidance vsd --backend sd15 --set lora_rank=8 --set lr_lora=1e-3".split())
    main("image cube --set inner_steps=2 --set renormalize_noise=true".split())
    main("invert good.png --prompt cube --set learning_rate=0.1".split())
    main("edit good.png --from cube --to ball --set averages=2".split())
    (first, _), (second, _), (third, _), (fourth, _) = asked
    settings = {"lora_rank": 8, "lr_lora": 1e-3}
    assert first == ImageJob("cube", guidance="vsd", model="sd15", settings=settings)
    assert second == ImageJob("cube", settings={"inner_steps": 2, "renormalize_noise": True})
    assert third.settings == {"learning_rate": 0.1} and fourth.settings == {"averages": 2}


INVERT, EDIT = (
    ("invert", "good.png", "--prompt", "cube"),
    ("edit", "good.png", "--from", "cube", "--to", "ball"),
)
MESSAGES = {
    ("image",): 'PROMPT: is empty; say what the image shows, as in PROMPT "a red cube"',
    ("image", "cube", "--guidance", "sds"): (
        "--guidance sds: is defined for diffusion models, and tiny-sd3 is none; use --guidance rfds or rfds-rev or "
        "rfds-vsd, or another model such as --backend tiny-sd or sd15"
    ),
    ("image", "cube", "--set", "lora_rank=8"): (
        "--set lora_rank=8: only rfds-vsd and vsd can use it; leave it out with --guidance rfds-rev"
    ),
    ("image", "cube", "--particles", "0"): (
        "--particles 0: has to be a whole number of at least 1; try --particles 4"
    ),
    (*INVERT, "--set", "averages=2"): (
        "--set averages=2: there is no setting averages; `rfgs settings` lists what there is"
    ),
    (*EDIT, "--method", "flowedit", "--set", "averages=0"): (
        "--set averages=0: has to be a whole number from 1 to 1000; try --set averages=1"
    ),
    ("image", "cube", "--resolution", "72"): (
        "--resolution 72: has to be a multiple of 16 and at least 32; try --resolution 64"
    ),
    ("image", "cube", "--output", "."): (
        "--output .: is not empty; choose another folder, or replace what a run writes with --overwrite"
    ),
    ("invert", "good.png"): '--prompt: is empty; say what the image shows, as in --prompt "a red cube"',
    ("invert", "none.png", "--prompt", "cube"): (
        "none.png: no such file; give an image file, such as a .png or .jpg"
    ),
    (*INVERT, "--steps", "0"): "--steps 0: has to be at least 1; try --steps 400",
    (
        "edit",
        "good.png",
        "--from",
        "cube",
    ): '--to: is empty; say what the image shows, as in --to "a blue cube"',
    (*EDIT, "--strength", "2"): "--strength 2: has to be above 0 and at most 1; try --strength 0.66",
    (*EDIT, "--method", "ode", "--strength", "0.5"): (
        "--strength 0.5: only flowedit has one; leave it out with --method ode"
    ),
    (*EDIT, "--seed", "-1"): "--seed -1: has to be a whole number from 0 to 2^63 - 1; try --seed 0",
}


@pytest.mark.parametrize("arguments", MESSAGES, ids=" ".join)
def test_message(arguments: tuple[str, ...], asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err) == (2, "", f"rfgs: {MESSAGES[arguments]}\n")
    assert asked == [] and not Path("runs").exists()


def test_a_broken_photo(asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["invert", "broken.png", "--prompt", "cube"],
        ["edit", "broken.png", "--from", "cube", "--to", "ball"],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(command)
        err = capsys.readouterr().err
        assert exit_.value.code == 2 and err.startswith("rfgs: broken.png: is ") and err.count("\n") == 1


def test_a_run_that_never_began_leaves_no_folder(asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr("rfgs.flat.runs.make_image", broken)
    with pytest.raises(RuntimeError, match="no model"):
        main(["image", "cube"])
    assert list(Path("runs").iterdir()) == []
