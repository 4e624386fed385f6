"""
The log of a run as a story: for each line its level, its revision and its sentence.

Nothing is told that the log does not hold. What Lambda and the AWS libraries add to it is left out;
whatever else is in it, such as a traceback or what a revision printed, is told as it stands.
``LOG=raw`` in the environment is for the lines as they are.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

# Lambda Developer Guide, "Log and system events": what its platform writes into the log; and the
# lines by which botocore tells where it found something.
_OF_OTHERS = re.compile(r"(?:START|END|REPORT|INIT_START|INIT_REPORT) |\[INFO\]\t\S+\t\S*\tFound ")

_RESET, _BOLD, _DIM, _RED, _GREEN, _YELLOW = (f"\033[{code}m" for code in (0, 1, 2, 31, 32, 33))
_COLOURS = {"WARNING": _YELLOW, "ERROR": _RED, "CRITICAL": _RED}
_DONE, _GOOD, _BAD = "✓", "✔", "✘"

# The fields of the line that ends a run, and what they are called (README, "Ask it").
_FACTS = {
    "applied_migrations": "applied revisions",
    "previous_revision": "previous revision",
    "final_revision": "final revision",
    "pending_migrations": "pending revisions",
}


def is_raw() -> bool:
    """Tell whether the lines are wanted as they are."""
    return os.environ.get("LOG", "") == "raw"


def has_colours(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal whose owner has nothing against colours and marks."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        and (stream.encoding or "").lower().replace("-", "") == "utf8"
    )


def story(log: str, *, coloured: bool) -> Iterator[str]:
    """Yield the lines of the story of *log*."""
    lines = log.splitlines()
    if lines and not lines[0].startswith(("START ", "INIT_START ")):
        # Lambda hands back the last 4 KB, which begin in the middle of a line.
        yield _styled("… (Lambda tells the end of a log only)", _DIM, coloured=coloured)
        lines = lines[1:]
    records = [(line, _record(line)) for line in lines if line and not _OF_OTHERS.match(line)]
    width = max((len(str(one.get("revision", ""))) for _, one in records if one), default=0)
    waiting: list[str] = []
    ending: list[str] = []
    for line, record in records:
        if record is None:
            yield printable(line)
        elif "_aws" in record:
            # Metrics in CloudWatch's embedded format.
            continue
        elif record.get("message") == "run finished":
            # What comes after it in the log tells others of it.
            ending += _end(record, coloured=coloured)
        else:
            yield _told(record, waiting, width, coloured=coloured)
    yield from ending


def printable(text: str) -> str:
    """Return *text* with whatever could steer a terminal escaped."""
    return "".join(
        one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode()
        for one in text
    )


def _record(line: str) -> dict[str, Any] | None:
    """Return the fields of a line of JSON, else None."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_ours = isinstance(record, dict) and ("_aws" in record or "message" in record)
    return record if is_ours else None


def _told(record: Mapping[str, Any], waiting: list[str], width: int, *, coloured: bool) -> str:
    """
    Return one line; *waiting* are the revisions that are still to come.

    What a revision does is logged before its commit: it belongs to the first that waits.
    """
    level, text = str(record.get("level", "")), str(record["message"])
    revision = record.get("revision")
    mark = " "
    colour = _COLOURS.get(level, "")
    if isinstance(revision, str):
        text = text.removeprefix(f"{revision}: ")
        if text.startswith("will "):
            waiting.append(revision)
        elif text.startswith("already "):
            colour = colour or _DIM
        elif text in ("applied", "rolled back"):
            waiting[:] = [one for one in waiting if one != revision]
            mark, colour = _DONE, colour or _GREEN
    elif waiting and not text.startswith("applying "):
        revision = waiting[0]
        text = text.removeprefix(f"{revision}: ")
    columns = f"{level:7} {printable(str(revision or '')):{width}}  {printable(text)}"
    return _styled(f"{mark} {columns}" if coloured else columns, colour, coloured=coloured)


def _end(record: Mapping[str, Any], *, coloured: bool) -> Iterator[str]:
    """Yield how the run ended: what it answered, and where it left the database."""
    is_good = record.get("success") is True
    sentence = f"{record.get('outcome', '')}: {record.get('result', '')}"
    mark = f"{_GOOD if is_good else _BAD} " if coloured else ""
    yield _styled(
        mark + printable(sentence), _BOLD + (_GREEN if is_good else _RED), coloured=coloured
    )
    for name, called in _FACTS.items():
        value = record.get(name)
        if value not in (None, [], ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{'  ' if coloured else ''}{called}: {printable(shown)}"
    if trace := record.get("exception"):
        yield from (printable(line) for line in str(trace).splitlines())


def _styled(text: str, style: str, *, coloured: bool) -> str:
    return f"{style}{text}{_RESET}" if coloured and style else text
