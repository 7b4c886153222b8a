"""Whole models load under every standard set of names and without a network; what is incomplete is refused in a line."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

huggingface_hub = pytest.importorskip("huggingface_hub")

from rfgs.errors import UserError  # noqa: E402
from rfgs.models import machine, snapshot, weighing  # noqa: E402
from rfgs.models.available import check_source  # noqa: E402
from rfgs.models.catalog import is_small  # noqa: E402
from rfgs.models.kind import kind_of  # noqa: E402
from rfgs.models.libraries import check_libraries  # noqa: E402
from rfgs.priors import load_prior  # noqa: E402
from tests.priors import layouts  # noqa: E402

MINE = "me/my-model"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.stable_diffusion_3(tmp_path_factory.mktemp("sd3"), t5=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, no network, and none of the embeddings that other tests made."""

    def connect(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("RFGS_CACHE", str(tmp_path / "embeddings"))
    return tmp_path / "hub"


@pytest.fixture
def model(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "model"))


def outputs(source: str | Path) -> list[torch.Tensor]:
    prior = load_prior(source)
    condition = prior.embed(["a red cube"])
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    return [
        condition.tokens,
        condition.pooled,
        prior.predict(x, torch.tensor([0.5]), condition),
        prior.decode(x),
    ]


@pytest.fixture(scope="module")
def expected(plain: Path) -> list[torch.Tensor]:
    return outputs(plain)


@pytest.mark.parametrize("names", layouts.NAMES)
def test_standard_names(
    names: str, plain: Path, expected: list[torch.Tensor], tmp_path: Path, cache: Path
) -> None:
    folder = layouts.under_other_names(plain, tmp_path / "other", names)
    link = layouts.in_the_cache(folder, cache, MINE)
    (tmp_path / "link").symlink_to(link, target_is_directory=True)
    # Of float32, what depends on where in memory weights come to lie.
    tolerance = 0.05 if layouts.NAMES[names].get("variant") else 1e-6
    for source in (str(folder), str(tmp_path / "link"), MINE):
        assert check_source(source) == source
        for ours, theirs in zip(outputs(source), expected, strict=True):
            assert ((ours - theirs).norm() / theirs.norm()).item() <= tolerance
    assert kind_of(MINE) == "flow" and not is_small(MINE)
    # So many numbers in each part, whatever the files are called: memory is planned by them.
    parts = weighing.parts(plain)
    assert weighing.parts(folder) == parts and "transformer" in parts and "text_encoder_3" in parts
    if not names.startswith("bin"):  # Pickles have no header, and count as half precision.
        for part in parts:
            assert weighing.numbers(folder / part) == weighing.numbers(plain / part) > 0


@pytest.mark.parametrize("family", ["klein", "z_image"])
def test_big_parts_in_pieces(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As published ones of more than 10 GB are: a list of pieces, of the network and of the text encoder."""
    whole = request.getfixturevalue(family)
    folder = Path(shutil.copytree(whole, tmp_path / "pieces"))
    for part in ("transformer", "text_encoder"):
        (file,) = (folder / part).glob("*.safetensors")
        tensors = load_file(file)
        halves = [list(tensors)[::2], list(tensors)[1::2]]
        names = [f"{file.stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for name, half in zip(names, halves, strict=True):
            save_file({key: tensors[key] for key in half}, file.parent / name, {"format": "pt"})
        listed = {key: name for name, half in zip(names, halves, strict=True) for key in half}
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": listed}
        (file.parent / f"{file.name}.index.json").write_text(json.dumps(index))
        file.unlink()
        assert weighing.numbers(folder / part) == weighing.numbers(whole / part) > 0
        assert weighing.size(folder, [part]) >= size
    ours: Any = load_prior(folder)
    theirs: Any = load_prior(whole)
    for here, there in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        assert torch.equal(here, there)
    for here, there in zip(
        ours.embed(["a red cube"]).tokens, theirs.embed(["a red cube"]).tokens, strict=True
    ):
        torch.testing.assert_close(here, there)
    (folder / "text_encoder" / "model-00002-of-00002.safetensors").unlink()
    assert said(folder).startswith(
        f"{folder}: incomplete model: text_encoder/model-00002-of-00002.safetensors is miss"
    )


def said(source: str | Path, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        load_prior(source, **options).embed(["a red cube"])
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_missing_files_are_named_before_anything_is_loaded(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = layouts.under_other_names(plain, tmp_path / "other", "fp16-shards")
    piece = max((folder / "transformer").glob("*.safetensors"))
    assert "fp16-0000" in piece.name
    piece.unlink()
    monkeypatch.setattr("rfgs.priors.parts.load_module", None)
    expected = f"{folder}: incomplete model: transformer/{piece.name} is missing; download or copy it again"
    assert said(folder) == expected
    with pytest.raises(UserError, match=f"transformer/{piece.name} is missing"):
        check_source(str(folder))


@pytest.mark.parametrize("family", ["klein", "z_image"])
@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("model_index.json", "no model_index.json in it, so it is not a model"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is missing"),
        ("tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json is missing"),
        ("tokenizer/tokenizer.json", "tokenizer/vocab.json is missing"),
        ("tokenizer/chat_template.jinja", "tokenizer/chat_template.jinja is missing"),
        ("text_encoder/config.json", "text_encoder/config.json is missing"),
        ("text_encoder/model.safetensors", "text_encoder/ holds no weights"),
        ("transformer/config.json", "transformer/config.json is missing"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer/ holds no weights"),
        ("vae/diffusion_pytorch_model.safetensors", "vae/ holds no weights"),
        ("vae", "the part vae/ is missing"),
    ],
)
def test_models_that_qwen_reads_for_are_refused_by_the_missing_file(
    family: str, gone: str, told: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(family), tmp_path / "model"))
    assert check_source(str(folder)) == str(folder)
    place = folder / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(UserError, match=told) as raised:
        check_source(str(folder))
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


@pytest.mark.parametrize("family", ["klein", "z_image"])
@pytest.mark.parametrize("part", ["text_encoder", "transformer"])
def test_pieces_of_models_that_qwen_reads_for(
    family: str, part: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub has them: the weights of the large parts in pieces, with a list."""
    folder = Path(shutil.copytree(request.getfixturevalue(family), tmp_path / "model"))
    (whole,) = (folder / part).glob("*.safetensors")
    tensors, pieces = load_file(whole), [f"{whole.stem}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    whole.unlink()
    places = {name: pieces[index % 2] for index, name in enumerate(sorted(tensors))}
    for piece in pieces:
        save_file(
            {name: tensors[name] for name in tensors if places[name] == piece},
            folder / part / piece,
            {"format": "pt"},
        )
    (folder / part / f"{whole.name}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    assert len(load_prior(folder).embed(["blue"])) == 1
    (folder / part / pieces[1]).unlink()
    monkeypatch.setattr("rfgs.priors.parts.load_module", None)
    expected = f"{folder}: incomplete model: {part}/{pieces[1]} is missing; download or copy it again"
    assert said(folder) == expected


@pytest.mark.parametrize(
    ("part", "tensor"),
    [("transformer", "proj_out.weight"), ("vae", "encoder.conv_in.bias"), ("text_encoder_2", None)],
)
def test_missing_tensors(part: str, tensor: str | None, model: Path) -> None:
    """transformers fills them with random numbers."""
    (file,) = (model / part).glob("*.safetensors")
    tensors = load_file(file)
    tensor = tensor or next(name for name in tensors if name.endswith("mlp.fc1.weight"))
    del tensors[tensor]
    save_file(tensors, file, {"format": "pt"})
    assert f"incomplete SD3 model ({part}/ lacks the weights of " in said(model)


def test_a_configuration_of_another_width(model: Path) -> None:
    file = model / "transformer/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_head_dim": 16}))
    assert said(model).startswith(f"{model}: incomplete SD3 model (")


@pytest.mark.parametrize(
    ("part", "key", "channels"),
    [
        ("text_encoder_2", "projection_dim", 99),
        ("text_encoder_3", "d_model", 99),
        ("vae", "latent_channels", 4),
    ],
)
def test_parts_of_two_models(
    part: str, key: str, channels: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is whole, and they do not go together."""
    file = model / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: channels}))
    monkeypatch.setattr("rfgs.priors.sd3.load_network", None)
    message = said(model)
    assert f"{part}/ has " in message and f"channels ({key}) and transformer/ takes " in message


def test_words_that_a_library_has_to_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "tokenizer_3/tokenizer.json").unlink()
    (model / "tokenizer_3/spiece.model").touch()
    monkeypatch.setattr(machine, "version", lambda library: None if library == "sentencepiece" else "1")
    assert said(model) == (
        f"{model}: its tokenizer_3 has its words in spiece.model, which sentencepiece would read and is not installed; "
        "install them with `pip install 'rfgs[sd3]'`"
    )
    check_libraries("x", model, "cpu", t5=False)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_3"])
def test_a_vocabulary_without_words(part: str, model: Path) -> None:
    file = model / part / "tokenizer.json"
    content = json.loads(file.read_text())
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):
        content["model"]["vocab"] = [pair for pair in vocab if pair[0] in ("<pad>", "</s>", "<unk>")]
    else:
        special = {token["content"] for token in content["added_tokens"]}
        content["model"]["vocab"] = {word: number for word, number in vocab.items() if word in special}
        content["model"]["merges"] = []
    file.write_text(json.dumps(content))
    assert f"{part}/ " in said(model)
    file.unlink()
    assert f"incomplete model: {part}/" in said(model)


def test_a_library_that_is_not_installed(model: Path) -> None:
    file = model / "transformer/config.json"
    quantized = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantized))
    assert "its transformer is quantized by bitsandbytes, which " in said(model)


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (OSError(12, "Cannot allocate memory"), "this machine's"),
        (SafetensorError("Error while deserializing header: Cannot allocate memory (os error 12)"), "this machine's"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "this machine's"),
        (RuntimeError("std::bad_alloc"), "this machine's"),
        (RuntimeError("CUDA error: out of memory"), "the GPU's"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "the GPU's"),
    ],
)  # fmt: skip
def test_memory_that_runs_out(
    error: Exception, whose: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is told, alone or as what another error came from."""

    def fails(*_: Any, **__: Any) -> None:
        raise error

    def wraps(*_: Any, **__: Any) -> None:
        raise OSError("Unable to load weights") from error

    for way in (fails, wraps):
        monkeypatch.setattr("rfgs.priors.sd3.load_network", way)
        assert f"{whose} memory is not enough to load it" in said(model)


def test_t5_without_weights_and_dropped(model: Path) -> None:
    for file in (model / "text_encoder_3").glob("*.safetensors"):
        file.unlink()
    assert "text_encoder_3/ holds no weights" in said(model)
    assert len(load_prior(model, t5="drop").embed(["a red cube"])) == 1


@pytest.fixture
def hub(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that has `model`, and what it was asked for; `breaks` are the errors of the next downloads."""
    state: dict[str, Any] = {"fetched": [], "breaks": []}

    def snapshot_download(hub_id: str, *, allow_patterns: list[str]) -> str:
        if state["breaks"]:
            raise state["breaks"].pop(0)
        fetched = model.parent / "fetched"
        for name in allow_patterns:
            (fetched / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model / name, fetched / name)
        shutil.rmtree(cache, ignore_errors=True)
        state["fetched"] = allow_patterns
        return str(layouts.in_the_cache(fetched, cache, hub_id))

    def hf_hub_download(hub_id: str, file: str) -> str:
        return str(model / file)

    listing = [str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()]
    listing += ["sd3_medium.safetensors", "transformer/model.ckpt", "text_encoder/model.fp16.safetensors"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, hub_id: listing)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(snapshot, "_WAITS", (0.0, 0.0))
    return state


def test_a_finished_download_is_known(hub: dict[str, Any], model: Path) -> None:
    """What is fetched is what is checked for, with model_index.json, and nothing is fetched twice."""
    assert snapshot.lacks(MINE) == "model_index.json is missing"
    outputs(MINE)
    assert "model_index.json" in hub["fetched"]
    assert set(hub["fetched"]) <= {str(file.relative_to(model)) for file in model.rglob("*")}
    hub["breaks"] = [AssertionError("fetched again")]
    assert snapshot.lacks(MINE) is None and check_source(MINE) == MINE
    outputs(MINE)


def test_without_t5_the_rest_is_fetched_later(hub: dict[str, Any]) -> None:
    load_prior(MINE, t5="drop").embed(["blue"])
    assert not any("_3/" in name for name in hub["fetched"])
    assert snapshot.lacks(MINE, t5=False) is None
    assert snapshot.lacks(MINE) == "the part text_encoder_3/ is missing"
    outputs(MINE)
    assert any("text_encoder_3/" in name for name in hub["fetched"])


def test_a_download_that_breaks_is_gone_on_with(hub: dict[str, Any]) -> None:
    hub["breaks"] = [ConnectionError("reset"), TimeoutError("slow")]
    outputs(MINE)
    assert not hub["breaks"] and hub["fetched"]


def test_a_download_that_breaks_for_good(hub: dict[str, Any]) -> None:
    hub["breaks"] = [ConnectionError("reset")] * 9
    assert said(MINE) == (
        f"{MINE}: not downloaded whole yet, model_index.json is missing, and the model hub cannot be reached; check the "
        "connection, or use a local copy with --model FOLDER"
    )
    assert len(hub["breaks"]) == 6


def test_no_folder_and_no_hub_id() -> None:
    assert "no such folder" in said("no/such/folder")
