"""`Studio`: what the page is answered, and what it can have done."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from rfgs.errors import UserError
from rfgs.export.formats import FORMATS
from rfgs.runs import claims, folders, holding
from rfgs.viewer.same_origin import as_origin, cookie_name, has_cookie, has_token, is_loopback, refusal
from rfgs.viewer.server import address_of, free_port, new_token
from rfgs.viewer.studio.left import Left
from rfgs.viewer.studio.line import Line, Work
from rfgs.viewer.studio.server import Server
from rfgs.viewer.studio.shelf import Shelf
from rfgs.viewer.studio.views import Views
from rfgs.viewer.studio.wishes import LONGEST_PROMPT, QUALITIES, Wish, backends_here, remark_on, wish_of

MOST_COMPARED = 4
EXPORT_PATIENCE = 900.0
"""Seconds that a file may take to be made."""


class Studio:
    """Serves its page from its making until `close`.

    Args:
        place: folder of the runs' folders; made where there is none.
        command: what runs `rfgs`, such as [sys.executable, "-m", ...]; "generate" or "export" and their flags follow.
        forked: see `Line`; runs are its forks then.
        host, port: as for `rfgs.viewer.Viewer`.
        origin: under which a forwarder shows the page, such as "https://name.example".

    Raises:
        UserError: an address that cannot be listened on, a folder that cannot be written to, or in which another studio is.
    """

    def __init__(
        self,
        place: Path,
        command: Sequence[str],
        *,
        forked: Callable[[list[str]], None] | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
        origin: str | None = None,
    ) -> None:
        self._origin = None if origin is None else as_origin(origin)
        self._host, self._port = host, free_port(host, port)
        self._place = self._taken(place)
        self._command = list(command)
        self._token = new_token()
        self._backends = backends_here()
        self._line = Line(self._place, command, forked)
        self._shelf = Shelf(self._place, self._line.is_at_work_in)
        self._views = Views()
        self._exporting = (
            threading.Lock()
        )  # It takes memory and time, and one after the other is soon enough.
        self._server = Server(self, host, self._port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="rfgs-studio", daemon=True
        )
        self._line.start(lambda noted: wish_of(noted, self._names()))
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, with the token that lets in who has it."""
        return address_of(self._host, self._server.server_address[1], self._token, self._origin)

    def wait(self) -> None:
        """Serves until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            while self._thread.is_alive():
                self._thread.join(0.5)

    def close(self) -> None:
        """Lets the run at work write what there is, and ends. What waits is noted for the next time."""
        self._server.shutdown()
        self._server.server_close()
        self._views.close()
        self._line.close()
        holding.release(self._place)

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refuses(self, headers: Headers, path: str) -> str:
        """Why a request is not answered, or ""; as for every page of ours (`rfgs.viewer.same_origin`)."""
        reason = refusal(headers, loopback_only=is_loopback(self._host), origin=self._origin)
        if not reason and not has_token(path, self._token) and not has_cookie(headers, self._token):
            reason = "this page is for who has its whole address, as it was printed, with ?token= in it"
        # A page on another port of this machine has the browser show our cookie too, for a picture say.
        if (
            not reason
            and urlsplit(path).path != "/"
            and headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        ):
            reason = "this is for the studio's own page"
        return reason

    def cookie(self, headers: Headers, path: str) -> str | None:
        """What a browser is given to show from then on, if it came with the token."""
        if not has_token(path, self._token):
            return None
        return f"{cookie_name(headers)}={self._token}; Path=/; HttpOnly; SameSite=Strict"

    def state(self) -> dict[str, Any]:
        """All that the page shows."""
        line, runs = self._line, self._shelf.runs()
        work, words = line.work, {one.wish.name: one.words for one in line.ended if one.in_folder}
        return {
            "place": str(self._place).encode("utf-8", "replace").decode(),
            "backends": self._backends,
            "qualities": QUALITIES,
            "longest": LONGEST_PROMPT,
            "formats": [(known.suffix, known.summary) for known in FORMATS],
            "now": None if work is None else self._now(work),
            "waiting": [{"number": number, **wish.as_dict()} for number, wish in line.waiting],
            "failed": [
                {"number": one.number, "prompt": one.wish.prompt, "words": one.words}
                for one in line.ended
                if not one.in_folder
            ],
            "views": [_page_of(key) for key in self._views.keys()],
            "runs": [{**run.as_dict(), "words": words.get(run.name) or run.error} for run in runs],
        }

    def act(self, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Does what a page asks for.

        Raises:
            UserError: it cannot be done, in words for the page.
        """
        actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "go": self._go,
            "resume": self._resume,
            "cancel": self._cancel,
            "stop": self._stop,
            "go_on": self._go_on,
            "delete": self._delete,
            "open": self._open,
        }
        if what not in actions:
            raise UserError(f"{what!s:.40}: nothing of that name can be done here")
        return actions[what](asked)

    def picture(self, id: str) -> bytes:
        """The newest strip of views of a run, PNG."""
        path = self._shelf.picture(self._shelf.folder(id))
        if path is None:
            raise UserError("There is no picture of it yet")
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"Its picture cannot be read: {error.strerror}") from error

    def export(self, id: str, suffix: str) -> tuple[str, bytes]:
        """A run's asset in a format: a name for the file, and its bytes. Made by a process of its own."""
        if suffix not in [known.suffix for known in FORMATS]:
            raise UserError(f"{suffix:.40}: is not a format that rfgs writes")
        folder = self._shelf.folder(id)
        if not self._exporting.acquire(timeout=EXPORT_PATIENCE):
            raise UserError("Other files are still being made; try again later")
        try:
            with tempfile.TemporaryDirectory() as there:
                path = Path(there) / f"{folders.slug(folder.name)}{suffix}"
                done = subprocess.run(
                    [*self._command, "export", str(folder), str(path)],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=EXPORT_PATIENCE,
                )
                if done.returncode or not path.is_file():
                    told = (done.stderr.strip() or "it said nothing").splitlines()[-1]
                    raise UserError(f"The file could not be made: {told.removeprefix('rfgs: ')}")
                return path.name, path.read_bytes()
        except subprocess.TimeoutExpired as error:
            raise UserError("The file took too long to make") from error
        finally:
            self._exporting.release()

    def page(self, key: str) -> str | None:
        """The address of a run's live page, or of a page of files, by the key that the studio gave it."""
        work = self._line.work
        if work is not None and key == f"run-{work.number}":
            return work.address
        return self._views.url(key)

    def _taken(self, place: Path) -> Path:
        try:
            place.mkdir(parents=True, exist_ok=True)
            place = place.resolve()
            holding.hold(place)
        except FileExistsError as error:
            raise UserError(f"--output {place}: is a file; choose a folder") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"--output {place}: cannot be written ({reason}); choose another folder"
            ) from error
        return place

    def _names(self) -> list[str]:
        return [name for name, _ in self._backends]

    def _now(self, work: Work) -> dict[str, Any]:
        id = next((id for id, folder in self._shelf.folders().items() if folder == work.folder), None)
        return {
            "number": work.number,
            "prompt": work.wish.prompt,
            "run": id,
            "page": _page_of(f"run-{work.number}") if work.address else None,
            "steps": work.steps,
            "stops": work.stops,
            "left": isinstance(work.process, Left),
            "paused": work.paused,
        }

    def _go(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wish = wish_of(asked, self._names())
        if asked.get("start") is not None:
            folder = self._shelf.folder(asked["start"])
            if not self._shelf.run(asked["start"]).has_splats:
                raise UserError("That run has no splats yet to start from")
            wish = replace(wish, start=folder.name)
        return {"number": self._line.add(wish), "remark": remark_on(wish)}

    def _cancel(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._line.cancel(_number(asked))
        return {}

    def _stop(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._line.stop(_number(asked), _number(asked, "stops"))
        return {}

    def _go_on(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._line.go_on(_number(asked))
        return {}

    def _resume(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        folder, run = self._shelf.folder(asked.get("run")), self._shelf.run(asked.get("run"))
        if run.state in ("running", "elsewhere"):
            raise UserError("It is at work already")
        # One that did all its steps goes on for as many again.
        steps = None if run.goes_on else 2 * max(run.done, 1)
        wish = Wish(folder.name, run.prompt, run.backend, run.quality, resumes=True, steps=steps)
        return {"number": self._line.add(wish)}

    def _delete(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        folder = self._shelf.folder(asked.get("run"))
        if self._line.has(folder.name):
            raise UserError("It is at work or waits; stop it first")
        if self._line.starts_from(folder.name):
            raise UserError("One that waits or is at work starts from it; take that one away first")
        left = claims.remove_run(folder)
        return {"remark": f"{folder} is left with {left} other files in it" if left else ""}

    def _open(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        ids = asked.get("runs")
        if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_COMPARED:
            raise UserError(f"One run can be looked at, or up to {MOST_COMPARED} side by side")
        paths = [self._shelf.folder(id) for id in ids]
        return {"page": _page_of(self._views.open(paths, slow=asked.get("slow") is True))}


def _page_of(key: str) -> str:
    return f"/page/{key}/"


def _number(asked: Mapping[str, Any], name: str = "number") -> int:
    number = asked.get(name)
    return number if isinstance(number, int) and not isinstance(number, bool) else -1
