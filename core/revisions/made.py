"""
The code that revisions make, as their SQL on paper says it: functions, triggers and tables.

What cannot be read for certain is not compared: a name that a DO block, a revision that looks at
the database, or an ALTER also deals with is only known to be the revisions' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from core.revisions import books, rendering
from core.revisions.manifest import Revision
from core.revisions.sql_files import blanked

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-z_\w][\w$]*)'
_PATH = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})?"
_FUNCTION = re.compile(
    rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?P<kind>FUNCTION|PROCEDURE)\s+(?P<name>{_PATH})\s*\(",
    re.IGNORECASE,
)
_TRIGGER = re.compile(
    rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:CONSTRAINT\s+)?TRIGGER\s+(?P<name>{_IDENTIFIER})\s+"
    rf"(?P<timing>BEFORE|AFTER|INSTEAD\s+OF)\s+(?P<events>.+?)\s+ON\s+(?P<table>{_PATH})\s"
    rf"(?P<rest>.*)\bEXECUTE\s+(?:FUNCTION|PROCEDURE)\s+(?P<function>{_PATH})\s*"
    r"(?P<arguments>\(.*\))",
    re.IGNORECASE | re.DOTALL,
)
_TABLE = re.compile(
    rf"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{_PATH})", re.IGNORECASE
)
_DROPPED = re.compile(
    rf"DROP\s+(?:TRIGGER\s+(?:IF\s+EXISTS\s+)?(?P<trigger>{_IDENTIFIER})\s+ON"
    rf"|TABLE(?:\s+IF\s+EXISTS)?)\s+(?P<table>{_PATH})",
    re.IGNORECASE,
)
_SCHEMA_DROPPED = re.compile(
    rf"DROP\s+SCHEMA\s+(?:IF\s+EXISTS\s+)?(?P<name>{_IDENTIFIER})", re.IGNORECASE
)
# What leaves a function that was made before as it was, but for whose it is.
_HARMLESS_ALTER = re.compile(r"\bOWNER\s+TO\b|\bDEPENDS\s+ON\b", re.IGNORECASE)
_CHANGE = re.compile(
    rf"(?P<verb>ALTER|DROP)\s+(?:FUNCTION|PROCEDURE|ROUTINE)\s+(?:IF\s+EXISTS\s+)?"
    rf"(?P<name>{_PATH})",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(rf"\bLANGUAGE\s+(?P<name>{_IDENTIFIER}|'[^']+')", re.IGNORECASE)
_BODY = re.compile(
    r"\bAS\s+(?P<body>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|'(?:[^']|'')*')\s*(?P<next>,?)",
    re.IGNORECASE | re.DOTALL,
)
_SET = re.compile(
    r"\bSET\s+(?P<name>[\w.]+)\s*(?:=|\bTO\b)\s*(?P<value>.+?)"
    r"(?=\s+(?:AS|LANGUAGE|SECURITY|SET|IMMUTABLE|STABLE|VOLATILE|STRICT|CALLED|RETURNS|COST|ROWS"
    r"|PARALLEL|LEAKPROOF|NOT|WINDOW|SUPPORT|TRANSFORM|EXTERNAL|RETURN|BEGIN)\b|\s*\Z)",
    re.IGNORECASE | re.DOTALL,
)
_VOLATILITY = re.compile(r"\b(IMMUTABLE|STABLE|VOLATILE)\b", re.IGNORECASE)


_Key = TypeVar("_Key", str, tuple[str, str])
_Value = TypeVar("_Value")


class MadeFunction(NamedTuple):
    """
    A function as the last CREATE of it says.

    Attributes:
        name: With its schema, as SQL.
        arguments: How many it takes.
        settings: By name, without quotes and spaces.
        statement: Makes it so.
    """

    name: str
    kind: str
    arguments: int
    language: str
    source: str
    is_definer: bool
    settings: dict[str, str]
    volatility: str
    is_strict: bool
    is_leakproof: bool
    statement: str


class MadeTrigger(NamedTuple):
    """A trigger: *firing* is when it fires and what it calls; *statement* makes it."""

    table: str
    name: str
    firing: tuple[object, ...]
    statement: str


class Made(NamedTuple):
    """
    What revisions make.

    Attributes:
        functions: By name, one for each CREATE that is the last of its number of arguments.
        triggers: By table and name.
        tables: The statement that makes each.
        unsure: Names of functions that something else may have changed since.
        text: All the SQL, for whether a name is in it.
    """

    functions: dict[str, list[MadeFunction]]
    triggers: dict[tuple[str, str], MadeTrigger]
    tables: dict[str, str]
    unsure: frozenset[str]
    text: str

    def names(self, name: str) -> bool:
        """Say whether the revisions' SQL names the thing *name*, whatever its schema."""
        return names(name, self.text)


@cache
def made_by(revisions: tuple[Revision, ...]) -> Made:
    """Return what *revisions* make, with the books that a run keeps; worked out once."""
    statements = _split(books.CREATE)
    looked: list[str] = []
    for revision in revisions:
        found, paper = rendering.statements(revision, "upgrade")
        for one in found:
            statements += [one] if one.lstrip().upper().startswith("DO ") else _split(one)
        if paper.partial:
            looked.append(revision.file.read_text())
    return read(statements, looked)


def read(statements: Iterable[str], unread: Sequence[str] = ()) -> Made:
    """Return what *statements* make, in their order; *unread* are texts that may change it."""
    functions: dict[str, dict[int, MadeFunction]] = {}
    triggers: dict[tuple[str, str], MadeTrigger] = {}
    tables: dict[str, str] = {}
    unsure: set[str] = set()
    texts = list(unread)
    for statement in statements:
        texts.append(statement)
        functions = _outside_dropped(statement, functions)
        triggers = _outside_dropped(statement, triggers)
        if table := _TABLE.search(statement):
            tables[sql_name(table["name"])] = statement
        if statement.lstrip().upper().startswith("DO "):
            unsure |= {sql_name(one["name"]) for one in _FUNCTION.finditer(statement)}
            triggers = {key: one for key, one in triggers.items() if bare(key[1]) not in statement}
        elif function := _function(statement):
            name, made = function
            if made is None:
                unsure.add(name)
            else:
                unsure.discard(name)
                functions.setdefault(name, {})[made.arguments] = made
        elif trigger := trigger_of(statement):
            triggers[trigger.table, trigger.name] = trigger
        elif dropped := _DROPPED.match(statement.lstrip()):
            gone = (sql_name(dropped["table"]), sql_name(dropped["trigger"] or ""))
            triggers = {
                key: one for key, one in triggers.items() if gone not in (key, (key[0], ""))
            }
        elif change := _CHANGE.match(statement.lstrip()):
            name = sql_name(change["name"])
            if change["verb"].upper() == "DROP":
                # One statement may drop several.
                functions = {
                    one: two for one, two in functions.items() if not names(one, statement)
                }
                triggers = {key: one for key, one in triggers.items() if name not in one.firing}
            elif not _HARMLESS_ALTER.search(statement):
                unsure.add(name)
    for text in unread:
        unsure |= {name for name in functions if bare(name) in text}
    text = "\n".join(texts)
    return Made(
        {name: list(by_arguments.values()) for name, by_arguments in functions.items()},
        triggers,
        tables,
        frozenset(unsure),
        text,
    )


def _outside_dropped(statement: str, made: dict[_Key, _Value]) -> dict[_Key, _Value]:
    """Return what of *made* is in no schema that *statement* drops."""
    homes = tuple(f"{sql_name(one['name'])}." for one in _SCHEMA_DROPPED.finditer(statement))
    return {
        key: value
        for key, value in made.items()
        if not (key if isinstance(key, str) else key[0]).startswith(homes)
    }


def names(name: str, text: str) -> bool:
    """Say whether the SQL *text* names the thing *name*, whatever its schema."""
    return re.search(rf"(?<![\w$]){re.escape(bare(name))}(?![\w$])", text) is not None


def sql_name(written: str) -> str:
    """Return a name as PostgreSQL's ``quote_ident`` writes its parts, from how it was *written*."""
    parts = re.findall(_IDENTIFIER, written)
    return ".".join(_identifier(part) for part in parts)


def bare(name: str) -> str:
    """Return the last part of *name*, without quotes."""
    return str(re.findall(_IDENTIFIER, name.partition("(")[0])[-1]).strip('"')


def trigger_of(definition: str) -> MadeTrigger | None:
    """Return what CREATE TRIGGER says, as written by a person or by ``pg_get_triggerdef``."""
    found = _TRIGGER.match(definition.lstrip())
    if not found:
        return None
    events = frozenset(
        " ".join(one.replace('"', "").lower().split())
        for one in re.split(r"\s+OR\s+", found["events"], flags=re.IGNORECASE)
    )
    rest = found["rest"].upper()
    arguments = re.sub(r"\s|'", "", found["arguments"])
    firing = (
        " ".join(found["timing"].upper().split()),
        events,
        bool(re.search(r"\bROW\b", rest)),
        bool(re.search(r"\bWHEN\b", rest)),
        sql_name(found["function"]),
        arguments,
    )
    name, table = _identifier(found["name"]), sql_name(found["table"])
    return MadeTrigger(table, name, firing, definition.strip().rstrip(";"))


def plain_setting(value: str) -> str:
    """Return the *value* of a setting so that two ways to write it are one."""
    return re.sub(r"[\s'\"]", "", value)


def _function(statement: str) -> tuple[str, MadeFunction | None] | None:
    """Return the name of the function that *statement* makes, and what it says if that is plain."""
    head = _FUNCTION.match(statement.lstrip())
    if not head:
        return None
    name = sql_name(head["name"])
    written = statement.strip().rstrip(";")
    start = head.end() - 1
    end = _closing(blanked(written), start)
    tail = written[end:]
    body = _BODY.search(tail)
    language = _LANGUAGE.search(blanked_but(tail))
    if not body or body["next"] or not language or "." not in name:
        return name, None
    source = body["body"]
    source = (
        source[1:-1].replace("''", "'")
        if source.startswith("'")
        else source[len(body["tag"]) + 2 : -len(body["tag"]) - 2]
    )
    # The body may hold any word; what the options say is outside it.
    options = tail[: body.start()] + " " + tail[body.end() :]
    if re.search(r"\bFROM\s+CURRENT\b|\bSET\s+TIME\s+ZONE\b", options, re.IGNORECASE):
        return name, None
    volatility = _VOLATILITY.search(options)
    return name, MadeFunction(
        name=name,
        kind=head["kind"].upper(),
        arguments=_arguments(written[start + 1 : end - 1]),
        language=language["name"].strip("'\"").lower(),
        source=source,
        is_definer=bool(re.search(r"\bSECURITY\s+DEFINER\b", options, re.IGNORECASE)),
        settings={
            one["name"].lower(): plain_setting(one["value"]) for one in _SET.finditer(options)
        },
        volatility=volatility[1][0].lower() if volatility else "v",
        is_strict=bool(
            re.search(r"\bSTRICT\b|\bRETURNS\s+NULL\s+ON\s+NULL\b", options, re.IGNORECASE)
        ),
        is_leakproof=bool(re.search(r"(?<!NOT )\bLEAKPROOF\b", options, re.IGNORECASE)),
        statement=written,
    )


def blanked_but(text: str) -> str:
    """Return *text* without the bodies of functions, whose words are not options."""
    return re.sub(r"\$(\w*)\$.*?\$\1\$", " ", text, flags=re.DOTALL)


def _arguments(text: str) -> int:
    """Return how many arguments go in, of what stands between a function's parentheses."""
    plain = blanked(text)
    depth, parts = 0, [""]
    for written, shown in zip(text, plain, strict=True):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(shown, 0)
        if shown == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += written
    return sum(1 for one in parts if one.strip() and not one.strip().upper().startswith("OUT "))


def _closing(plain: str, start: int) -> int:
    """Return the place behind the parenthesis that closes the one at *start* of *plain*."""
    depth = 0
    for position in range(start, len(plain)):
        depth += {"(": 1, ")": -1}.get(plain[position], 0)
        if depth == 0:
            return position + 1
    return len(plain)


def _split(text: str) -> list[str]:
    """Return the statements in *text*; a body in BEGIN ATOMIC … END falls apart, and is unread."""
    plain, found, start = blanked(text), [], 0
    for end in [place for place, one in enumerate(plain) if one == ";"] + [len(text)]:
        # A comment before a statement does not belong to it.
        blank = len(plain[start:end]) - len(plain[start:end].lstrip())
        if plain[start:end].strip():
            found.append(text[start + blank : end])
        start = end + 1
    return found


def _identifier(part: str) -> str:
    """Return one *part* of a name as ``quote_ident`` writes it, but for reserved words."""
    if part.startswith('"'):
        plain = part[1:-1].replace('""', '"')
        return plain if re.fullmatch(r"[a-z_][a-z0-9_]*", plain) else part
    return part.lower()
