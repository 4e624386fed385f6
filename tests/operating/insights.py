"""
The part of CloudWatch Logs Insights' query language that our queries use, on lines of JSON.

The local AWS has none. An unknown word is an error, so a query cannot pass by being ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

Line = dict[str, Any]

_STRING = r'"([^"]*)"'
_AGGREGATION = re.compile(r"(\w+\(.+?\)) as (\w+)")


def run(query: str, lines: Iterable[Line]) -> list[Line]:
    """Return what *query* answers on *lines*; ``@message`` and ``@timestamp`` must be in them."""
    found = list(lines)
    for command in query.strip().split("\n| "):
        word, _, rest = command.strip().partition(" ")
        found = _COMMANDS[word](rest, found)
    return found


def _filter(text: str, lines: list[Line]) -> list[Line]:
    conditions = [_condition(part) for part in text.split(" and ")]
    return [line for line in lines if all(holds(line) for holds in conditions)]


def _condition(text: str) -> Callable[[Line], bool]:
    if found := re.fullmatch(r"ispresent\((\S+)\)", text):
        return lambda line: _value(line, found[1]) is not None
    if found := re.fullmatch(rf"(\S+) = {_STRING}", text):
        return lambda line: _value(line, found[1]) == found[2]
    if found := re.fullmatch(r"(\S+) like /(.+)/", text):
        return lambda line: re.search(found[2], str(_value(line, found[1]))) is not None
    raise ValueError(f"no condition: {text}")


def _fields(text: str, lines: list[Line]) -> list[Line]:
    names = text.split(", ")
    return [{name: _value(line, name) for name in names} for line in lines]


def _sort(text: str, lines: list[Line]) -> list[Line]:
    name, _, order = text.partition(" ")
    assert order in ("", "asc", "desc")
    return sorted(lines, key=lambda line: line[name], reverse=order == "desc")


def _limit(text: str, lines: list[Line]) -> list[Line]:
    return lines[: int(text)]


def _stats(text: str, lines: list[Line]) -> list[Line]:
    what, _, by = text.partition(" by ")
    names = by.split(", ")
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(_value(line, name) for name in names), []).append(line)
    return [
        dict(zip(names, key, strict=True))
        | {
            name: _aggregate(call, group)
            for call, name in re.findall(r"(\w+\(.+?\)) as (\w+)", what)
        }
        for key, group in groups.items()
    ]


def _aggregate(call: str, lines: list[Line]) -> Any:
    function, arguments = call[:-1].split("(")
    name, *more = arguments.split(", ")
    if function == "count":
        return len(lines)
    ordered = sorted(lines, key=lambda line: line["@timestamp"])
    values = [value for line in ordered if (value := _value(line, name)) is not None]
    match function:
        case "latest":
            return values[-1] if values else None
        case "max":
            return max(values)
        case "pct":
            return sorted(values)[math.ceil(len(values) * int(more[0]) / 100) - 1]
    raise ValueError(f"no aggregation: {call}")


def _value(line: Line, name: str) -> Any:
    """Return the field *name*; an array's first element is ``name.0``."""
    if name in line:
        return line[name]
    whole, _, index = name.rpartition(".")
    values = line.get(whole)
    return values[int(index)] if isinstance(values, list) and len(values) > int(index) else None


_COMMANDS: dict[str, Callable[[str, list[Line]], list[Line]]] = {
    "fields": _fields,
    "filter": _filter,
    "limit": _limit,
    "sort": _sort,
    "stats": _stats,
}
