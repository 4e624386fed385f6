"""
Files of SQL that lie beside the revisions that run them, such as a dump of ``pg_dump``.

The server is sent SQL. What psql makes of a file before that, its own commands and the data
behind COPY, is refused by name and line; only the two lines that newer dumps begin and end with
are left out (pg_dump documentation, ``--restrict-key``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_QUOTED = re.compile(
    r"""
    --[^\n]*
    | (?<![\w$]) [eE]' (?: [^'\\] | \\. | '' )* (?: ' | \Z )
    | ' (?: [^'] | '' )* (?: ' | \Z )
    | " [^"]* (?: " | \Z )
    | (?<![\w$]) \$ (?P<tag> (?: [^\W\d] \w* )? ) \$ .*? (?: \$ (?P=tag) \$ | \Z )
    | (?P<comment> /\* )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_PSQL = re.compile(
    r"\\(?P<command>\S*)[^\n]* | (?:\A|(?<=;)) \s* (?P<copy>COPY\b[^;]*\bSTDIN\b)",
    re.VERBOSE | re.IGNORECASE,
)
_LEFT_OUT = ("restrict", "unrestrict")


class SqlFileError(ValueError):
    """A file that no revision can run; the message names it, the line and the remedy."""


def find(script: Path, name: str) -> Path:
    """
    Return the file *name*, which the revision in *script* runs.

    Raises:
        SqlFileError: It is not a ``.sql`` file, and beside the script or below.
    """
    file = script.parent / name
    is_below = file.resolve().is_relative_to(script.parent.resolve())
    if not is_below or Path(name).is_absolute() or file.suffix != ".sql":
        raise SqlFileError(f"{name!r} is not a .sql file in the folder of the revisions, or below")
    if not file.is_file():
        raise SqlFileError(f"there is no file {name!r} beside it")
    return file


def read(file: Path) -> str:
    """
    Return the SQL in *file*.

    Raises:
        SqlFileError: It is not UTF-8, or there is something in it that only psql understands.
    """
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SqlFileError(f"{file.name} is not in UTF-8: save it so") from error
    for start, end, command in psql_commands(text):
        if command not in _LEFT_OUT:
            line = text.count("\n", 0, start) + 1
            remedy = (
                "dump with --inserts" if command == "COPY" else "take it out, or write it as SQL"
            )
            what = "COPY … FROM stdin" if command == "COPY" else f"\\{command}"
            raise SqlFileError(f"{file.name}:{line}: {what} works in psql only: {remedy}")
        text = text[:start] + " " * (end - start) + text[end:]
    if not blanked(text).strip("; \t\n"):
        raise SqlFileError(f"{file.name} contains no statement")
    return text


def psql_commands(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where each command of psql's begins and ends in *text*, and its name."""
    for found in _PSQL.finditer(blanked(text)):
        if found["copy"]:
            yield found.start("copy"), found.end("copy"), "COPY"
        else:
            yield found.start(), found.end(), found["command"]


def blanked(text: str) -> str:
    """Return *text* with spaces for what is quoted or a comment, line by line as long."""
    kept: list[str] = []
    position = 0
    while found := _QUOTED.search(text, position):
        end = _end_of_comment(text, found.end()) if found["comment"] else found.end()
        kept.append(text[position : found.start()])
        kept.append(re.sub(r"[^\n]", " ", text[found.start() : end]))
        position = end
    return "".join(kept) + text[position:]


def _end_of_comment(text: str, position: int) -> int:
    """Return the end of the comment that has begun before *position*: comments nest."""
    depth = 1
    for found in _COMMENT.finditer(text, position):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)
