"""What somebody asks a batch for: prompts, and files of them with or without settings of their own. No torch here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rfgs.errors import UserError

SUFFIXES = (".txt", ".csv")


@dataclass(frozen=True)
class Line:
    """One prompt, as it was asked for."""

    where: str
    """What messages call it, such as "prompts.csv, line 3"."""
    prompt: str
    columns: dict[str, str] = field(default_factory=dict)
    """What its line says of settings, by the names of the columns, as text; empty cells are left out."""


def read(arguments: Sequence[str]) -> list[Line]:
    """Lines of what was typed: files, told by the end of their names, and prompts.

    Raises:
        UserError: nothing was typed, or a file that is missing, empty or cannot be read.
    """
    found: list[Line] = []
    for argument in arguments:
        if argument.lower().endswith(SUFFIXES):
            found += read_file(Path(argument))
        else:
            found.append(Line(f'prompt "{argument}"', argument))
    if not found:
        raise UserError(
            "no prompts; name a file with one a line, as in `rfgs batch prompts.txt`, or type some in quotes"
        )
    return found


def read_file(path: Path) -> list[Line]:
    """The lines of a text file with a prompt a line, or of a table (.csv) with a column `prompt`.

    Empty lines are passed over, and so are those of a text file that begin with #.

    Raises:
        UserError: it is missing, empty or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); name a file with one prompt a line"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {number}: is not UTF-8; save the file as UTF-8") from error
    found = list(_of_table(path, text) if path.suffix.lower() == ".csv" else _of_text(path, text))
    if not found:
        raise UserError(f"{path}: holds no prompts; write one a line")
    return found


def _of_text(path: Path, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Line(f"{path}, line {number}", line.strip())


def _of_table(path: Path, text: str) -> Iterator[Line]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    try:
        for row in rows:
            where, cells = f"{path}, line {rows.line_num}", [cell.strip() for cell in row]
            if not any(cells):
                continue
            if names is None:
                names = [cell.lower().removeprefix("--").replace("-", "_") for cell in cells]
                if "prompt" not in names or len(set(names)) < len(names) or not all(names):
                    raise UserError(
                        f"{where}: has to name the columns, each once, with one called prompt; such as "
                        "prompt,seed,guidance_scale"
                    )
                continue
            if len(cells) > len(names):
                raise UserError(
                    f"{where}: has {len(cells)} cells for {len(names)} columns; put a prompt with commas in quotes"
                )
            columns = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
            yield Line(where, columns.pop("prompt", ""), columns)
    except csv.Error as error:
        raise UserError(
            f"{path}, line {rows.line_num}: is not a row of a table ({error}); mend it"
        ) from error
