"""What the model hub's answers and failures mean, as one line each with the remedy. No network and no torch here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from rfgs.errors import UserError

LOCAL = "use a local copy with --model FOLDER"
LOG_IN = "log in with `hf auth login` (or set HF_TOKEN)"


def page(hub_id: str) -> str:
    """Where a model can be read about, and its license accepted."""
    return f"https://huggingface.co/{hub_id}"


def explained(hub_id: str, error: Exception, lacks: str | None = None) -> UserError | None:
    """An error of the hub's client as the user's problem; None for one that says nothing of user, hub or network.

    Args:
        lacks: what is not there yet of a download that was begun, as `rfgs.models.layout.missing` says it.
    """
    problem = next((found for one in _chain(error) if (found := _problem(hub_id, one))), None)
    if problem is None and any(_is_broken_line(one) for one in _chain(error)):
        problem = f"the model hub cannot be reached; check the connection, or {LOCAL}"
    if problem is None:
        return None
    state = f"not downloaded whole yet, {lacks}, and " if lacks else "not downloaded yet and "
    # Who may not read a model is not helped by hearing how much of it is there.
    return UserError(f"{hub_id}: {state if problem.startswith('the model hub') else ''}{problem}")


@contextmanager
def answers(hub_id: str, lacks: str | None = None) -> Iterator[None]:
    """Tells what the hub's client raises, as `explained` puts it; other errors stay what they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = explained(hub_id, error, lacks)
        if problem is None:
            raise
        raise problem from error


def is_passing(error: Exception) -> bool:
    """Whether to try again may help: a broken line, or a hub in trouble."""
    for one in _chain(error):
        status = _status(one)
        if status is not None:
            return status >= 500
        if type(one).__name__ == "OfflineModeIsEnabled" or _full(one):
            return False
    return any(_is_broken_line(one) for one in _chain(error))


def _problem(hub_id: str, error: BaseException) -> str | None:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    status = _status(error)
    if isinstance(error, GatedRepoError):
        return (
            "its weights are gated and this account may not read them; accept the license at "
            f"{page(hub_id)}, then {LOG_IN}, or {LOCAL}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            "neither a folder here nor a model on the hub that this account may see; check the spelling, "
            f"{LOG_IN}, or {LOCAL}"
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"the model on the hub has no model_index.json, so it is not in diffusers' layout; {LOCAL}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"the model hub cannot be reached while HF_HUB_OFFLINE is set; unset it, or {LOCAL}"
    if _full(error):
        return f"the disk is full; make room, set HF_HOME to a folder on a larger disk, or {LOCAL}"
    if isinstance(error, PermissionError):
        return f"{error.filename} cannot be written; set HF_HOME to a folder of your own, or {LOCAL}"
    if status == 401:
        return f"the model hub does not know this account's token (401); {LOG_IN} anew, or {LOCAL}"
    if status == 403:
        return (
            "the model hub refuses this account's token (403); give it the right to read gated models at "
            f"https://huggingface.co/settings/tokens, or {LOCAL}"
        )
    if status == 404:
        return f"no such model on the hub (404); check the spelling, or {LOCAL}"
    if status == 429:
        return f"the model hub has had too many requests from here (429); wait some minutes, {LOG_IN}, or {LOCAL}"
    if status is not None and status >= 500:
        return f"the model hub is in trouble ({status}); try again later, or {LOCAL}"
    return f"the model hub refuses the request ({status}); {LOCAL}" if status else None


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_broken_line(error: BaseException) -> bool:
    # The hub's client has changed its HTTP library twice, and with it the class of "no connection".
    names = [cls.__name__ for cls in type(error).__mro__]
    words = ("Connect", "Timeout", "Transport", "LocalEntryNotFound", "XetDownload", "OfflineMode")
    return isinstance(error, OSError) or any(word in name for name in names for word in words)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: the client wraps answers in errors of its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
