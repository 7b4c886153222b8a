"""Whom the studio answers, and what; without a browser."""

from __future__ import annotations

import http.client
import inspect
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rfgs.errors import UserError
from rfgs.export import write_ply
from rfgs.viewer.studio import Studio
from rfgs.viewer.studio.server import LARGEST_REQUEST
from tests.viewer.studio.fake_rfgs import END, PLAIN
from tests.viewer.studio.test_line import wait_until
from tests.viewer.studio.test_shelf import run_in
from tests.viewer.viewer_fakes import three_balls


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with Studio(tmp_path / "runs", PLAIN, port=0) as studio:
        yield studio
        for number, _ in studio._line.waiting:
            studio._line.cancel(number)  # Or it would begin now, and be waited for.
        for work in [studio._line.work]:
            if work is not None:
                work.process.kill()


def ask(
    studio: Studio,
    path: str,
    content: Any = None,
    *,
    token: bool = True,
    method: str | None = None,
    **headers: str,
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer. `headers` have "_" for "-"."""
    address = urlsplit(studio.url)
    port = address.port or 0
    given = {"Content-Type": "application/json"} if content is not None else {}
    if token:
        given["Cookie"] = f"rfgs-token-{port}={address.query.removeprefix('token=')}"
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = content if isinstance(content, bytes) or content is None else json.dumps(content)
    connection.request(method or ("GET" if content is None else "POST"), path, body, given)
    answer = connection.getresponse()
    told = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return told


def state(studio: Studio) -> dict[str, Any]:
    return json.loads(ask(studio, "/state")[1])


def test_only_who_has_the_token_looks_or_starts(studio: Studio) -> None:
    wish = {"prompt": "a cube", "backend": "tiny-sd3", "quality": "draft"}
    for path, content in (
        ("/", None),
        ("/state", None),
        ("/studio.js", None),
        ("/go", wish),
        ("/page/run-1/", None),
    ):
        assert ask(studio, path, content, token=False)[0] == 403
        assert ask(studio, path, content, token=False, Cookie="rfgs-token-1=x")[0] == 403
    assert ask(studio, "/?token=wrong", token=False)[0] == 403
    status, page, headers = ask(studio, f"/?{urlsplit(studio.url).query}", token=False)
    assert status == 200 and b"rfgs studio" in page
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert "script-src 'self'" in headers["Content-Security-Policy"] and "<script>" not in page.decode()
    assert state(studio)["waiting"] == [] and state(studio)["now"] is None


def test_other_pages_in_the_same_browser_are_refused(studio: Studio) -> None:
    wish = {"prompt": "a cube", "backend": "tiny-sd3", "quality": "draft"}
    assert ask(studio, "/go", wish, Origin="https://evil.example")[0] == 403
    assert ask(studio, "/state", Host="evil.example")[0] == 403
    assert (
        ask(studio, "/go", wish, Content_Type="text/plain")[0] == 422
    )  # As a form of another page could send it.
    assert state(studio)["now"] is None and state(studio)["waiting"] == []
    assert ask(studio, "/export/x/.glb", Sec_Fetch_Site="same-site")[0] == 403
    assert ask(studio, "/", Sec_Fetch_Site="cross-site")[0] == 200  # A link that somebody follows.
    own = urlsplit(studio.url)
    assert ask(studio, "/state", Origin=f"http://{own.netloc}")[0] == 200


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/go", {"prompt": "a cube", "backend": "none", "quality": "draft"}),
        ("/go", [1]),
        ("/go", b"{"),
        ("/go", {"prompt": "a cube", "backend": "tiny-sd3", "quality": "draft", "start": "../../etc"}),
        ("/go", b"[" * 10_000),
        ("/absent", {}),
        ("/go/more", {}),
        ("/open", {"runs": ["../../etc"]}),
        ("/open", {"runs": []}),
        ("/open", {"runs": "abc"}),
        ("/delete", {"run": ".."}),
        ("/delete", {}),
        ("/resume", {"run": 3}),
        ("/picture/..%2f..", None),
        ("/export/x/.ply", None),
    ],
)
def test_nonsense_is_one_line(studio: Studio, path: str, content: Any) -> None:
    status, told, _ = ask(studio, path, content)
    problem = json.loads(told)["problem"]
    assert status == 422 and problem and "\n" not in problem


WRONG: list[Any] = [
    None,
    True,
    -1,
    1.5,
    1e30,
    float("nan"),
    10**30,
    "",
    "x",
    "../..",
    "\ud800",
    [],
    [[]],
    [{}],
    {},
    {"run": 1},
]
ASKED = {
    "go": ("prompt", "backend", "quality", "seed", "start"),
    "resume": ("run",),
    "cancel": ("number",),
    "stop": ("number", "stops"),
    "go_on": ("number",),
    "delete": ("run",),
    "open": ("runs",),
}
"""By what can be done, what it is told."""


def test_wrong_messages_change_nothing(studio: Studio) -> None:
    """Each field of each of them, of every wrong kind, while a run is at work and another one waits."""
    assert ASKED.keys() == set(re.findall(r'"(\w+)": self\._\w+,', inspect.getsource(Studio.act)))
    wish = {"prompt": "a cube", "backend": "tiny-sd3", "quality": "draft", "seed": 0}
    for _ in range(2):
        assert ask(studio, "/go", wish)[0] == 200
    wait_until(lambda: (state(studio)["now"] or {}).get("steps"))
    before = state(studio)
    right = {
        **wish,
        "run": before["runs"][0]["id"],
        "runs": [],
        "start": None,
        "number": before["now"]["number"],
        "stops": 0,
    }
    for what, names in ASKED.items():
        for name in names:
            for value in WRONG:
                if (what, name, value) not in (
                    ("go", "prompt", "x"),
                    ("go", "seed", None),
                    ("go", "start", None),
                ):
                    content = {**{one: right[one] for one in names}, name: value}
                    status, told, _ = ask(studio, f"/{what}", content)
                    assert status in (200, 422) and isinstance(json.loads(told), dict), (what, content)
    after = state(studio)
    for name in ("now", "waiting", "failed", "views"):
        assert after[name] == before[name], name


def test_what_is_sent_is_bounded(studio: Studio) -> None:
    assert ask(studio, "/go", {"prompt": "x" * LARGEST_REQUEST})[0] == 422
    assert ask(studio, "/go", b"", method="POST", Content_Length="-1")[0] == 422
    assert ask(studio, "/nowhere")[0] == 404 and ask(studio, "/go", method="PUT")[0] == 501


def test_a_prompt_becomes_a_run(studio: Studio) -> None:
    told = json.loads(ask(studio, "/go", {"prompt": "a horse", "backend": "tiny-sd3", "quality": "draft"})[1])
    assert (told["word"], told["near"]) == ("horse", ["dog", "cat"])
    for prompt in ("a <b>cube</b>", "a ball"):
        told = ask(
            studio, "/go", {"prompt": prompt, "backend": "tiny-sd3", "quality": "draft", "any_words": True}
        )
        assert told[0] == 200
    wait_until(lambda: (state(studio)["now"] or {}).get("steps"))
    seen = state(studio)
    assert seen["now"]["prompt"] == "a <b>cube</b>" and [one["prompt"] for one in seen["waiting"]] == [
        "a ball"
    ]
    (run,) = seen["runs"]
    assert (run["state"], run["id"]) == ("running", seen["now"]["run"])
    for what in ("delete", "resume"):
        assert ask(studio, f"/{what}", {"run": run["id"]})[0] == 422  # It is at work.
    ask(studio, "/cancel", {"number": seen["waiting"][0]["number"]})
    (studio._place / END).write_text(run["prompt"])
    wait_until(lambda: state(studio)["now"] is None)
    (run,) = state(studio)["runs"]
    assert run["state"] == "finished" and state(studio)["waiting"] == []
    (studio._place / END).unlink()
    assert (
        ask(studio, "/resume", {"run": run["id"]})[0] == 200
    )  # It did all its steps, and makes as many again.
    wait_until(lambda: (state(studio)["now"] or {}).get("steps"))
    work = studio._line.work
    assert work is not None and work.wish.steps == 100
    (studio._place / END).write_text(run["prompt"])


def test_another_prompt_starts_from_a_run(studio: Studio) -> None:
    folder = run_in(studio._place / "a")
    (run,) = state(studio)["runs"]
    wish = {"prompt": "a blue ball", "backend": "tiny-sd3", "quality": "draft", "seed": 2, "start": run["id"]}
    status, told, _ = ask(studio, "/go", wish)
    assert status == 422 and json.loads(told)["problem"] == "That run has no splats yet to start from"
    write_ply(three_balls(30), folder / "splats.ply")
    assert ask(studio, "/go", {**wish, "prompt": "a red horse"})[0] == 422  # Checked as any other prompt is.
    for _ in range(2):
        assert ask(studio, "/go", wish)[0] == 200
    wait_until(lambda: (state(studio)["now"] or {}).get("steps"))
    waiting = state(studio)["waiting"]
    assert [(one["name"], one["start"]) for one in waiting] == [("a-blue-ball-2-2", "a")]
    ask(studio, "/cancel", {"number": waiting[0]["number"]})
    status, told, _ = ask(studio, "/delete", {"run": run["id"]})
    assert status == 422 and "starts from it" in json.loads(told)["problem"]
    words = json.loads((studio._place / "a-blue-ball-2.words").read_text())
    assert words[words.index("--start") + 1] == str(folder)
    (studio._place / END).write_text("a blue ball")
    wait_until(lambda: state(studio)["now"] is None)
    assert ask(studio, "/delete", {"run": run["id"]})[0] == 200


def test_a_run_is_pictured_exported_opened_and_deleted(studio: Studio) -> None:
    folder = run_in(studio._place / "a")
    write_ply(three_balls(30), folder / "splats.ply")
    (folder / "turntable.png").write_bytes(b"picture")
    (run,) = state(studio)["runs"]
    assert ask(studio, f"/picture/{run['id']}?x")[1] == b"picture"
    status, content, headers = ask(studio, f"/export/{run['id']}/.spz")
    assert (
        status == 200
        and content == f"made of {folder}".encode()
        and headers["Content-Disposition"].endswith("a.spz")
    )
    assert ask(studio, f"/export/{run['id']}/.exe")[0] == 422
    pages = [json.loads(ask(studio, "/open", {"runs": [run["id"]] * n})[1])["page"] for n in (1, 2, 1, 2)]
    assert pages == [pages[0], pages[1]] * 2 and state(studio)["views"] == [pages[0], pages[1]]
    status, page, _ = ask(studio, pages[-1])
    assert status == 200 and b"<title>Viser</title>" in page
    (folder / "mine.txt").touch()
    told = json.loads(ask(studio, "/delete", {"run": run["id"]})[1])
    assert told["remark"].endswith("is left with 1 other files in it") and state(studio)["runs"] == []


def test_another_studio_in_the_same_folder_is_one_line(studio: Studio, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from rfgs.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "studio", "--output", studio._place, "--port", "0", "--no-open"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "is at work in it" in done.stderr
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        Studio(tmp_path / "file", PLAIN, port=0)


def test_bytes_are_passed_on_both_ways(studio: Studio) -> None:
    """As for a websocket: what the page is told has its own token and host, and nothing that the browser's page is."""
    with socket.create_server(("127.0.0.1", 0)) as page:
        heard = bytearray()

        def serve() -> None:
            connection, _ = page.accept()
            with connection:
                while b"\r\n\r\n" not in heard:
                    heard.extend(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                while chunk := connection.recv(4096):
                    connection.sendall(chunk.upper())

        threading.Thread(target=serve, daemon=True).start()
        studio.page = lambda key: f"http://127.0.0.1:{page.getsockname()[1]}/?token=theirs"  # type: ignore[method-assign]
        own = urlsplit(studio.url)
        with socket.create_connection((own.hostname or "", own.port or 0), timeout=30) as browser:
            cookie = f"rfgs-token-{own.port}={own.query.removeprefix('token=')}"
            lines = [
                "GET /page/x/ws?a HTTP/1.1",
                f"Host: {own.netloc}",
                f"Origin: http://{own.netloc}",
                f"Cookie: {cookie}; rfgs-software=1; other=1",
            ]
            browser.sendall(
                ("\r\n".join([*lines, "Upgrade: websocket", "Connection: Upgrade"]) + "\r\n\r\n").encode()
            )
            answer = browser.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101")
            browser.sendall(b"hello")
            assert browser.recv(4096) == b"HELLO"
        head = heard.decode()
        assert head.startswith("GET /ws HTTP/1.1\r\n") and "theirs" in head and "Upgrade: websocket" in head
        assert "Cookie: rfgs-token-" in head and "; rfgs-software=1\r\n" in head and "other" not in head
        assert "Origin" not in head and own.query.removeprefix("token=") not in head
        assert f"Host: 127.0.0.1:{page.getsockname()[1]}\r\n" in head
