"""Which revision a database should reach, and who said so: pure decisions over plain values."""

from __future__ import annotations

import re

from core.errors import InvalidField
from core.model import HEAD, Choice, Declared, Request, TargetSource

# Alembic's version table holds VARCHAR(32).
LONGEST_IDENTIFIER = 32
_IDENTIFIER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.]*", re.ASCII)
_REFUSED_BY_ALEMBIC = frozenset("@-+:")
_RELATIVE_NAMES = frozenset({"heads", "base", "current"})


def identifier_problem(value: object) -> str | None:
    """
    Return why *value* cannot be the identifier of a revision; ``None`` if it can.

    What can be one can be recorded in a database, and named as a target.
    """
    if not isinstance(value, str):
        return "is not a text: write it in quotes"
    refused = sorted(_REFUSED_BY_ALEMBIC & set(value))
    if refused:
        return f"has {' '.join(refused)}, which Alembic refuses: use underscores or dots"
    if value.lower() in _RELATIVE_NAMES | {HEAD}:
        return "is a word that means another revision: choose another identifier"
    if not _IDENTIFIER.fullmatch(value):
        return "is not made of letters (A to Z), digits, underscores and dots: use only those"
    if len(value) > LONGEST_IDENTIFIER:
        return (
            f"is {len(value)} characters long, and the version table holds "
            f"{LONGEST_IDENTIFIER}: shorten it"
        )
    return None


def target_revision(value: str, *, named: str) -> str:
    """
    Return *value* if it has the form of a target: ``head``, or one exact identifier.

    Alembic also takes ``+1``, ``heads`` and unique prefixes. We do not: events are
    delivered at least once, and a second ``+1`` is a different migration. A prefix has
    the form of an identifier, so ``plan`` is where it fails, as unknown.

    Raises:
        InvalidField: *value* has another form; the error names the place, *named*.
    """
    if value != HEAD and identifier_problem(value) is not None:
        raise InvalidField(
            named, f"{value!r} is not a target", "give 'head' or one exact revision identifier"
        )
    return value


def declared_target(declared: Declared) -> Choice:
    """
    Return the target that a parameter declares, trimmed and checked by form.

    Raises:
        InvalidField: The parameter is not a String, or its value not a target.
    """
    if declared.type != "String":
        raise InvalidField(
            declared.parameter, f"is of type {declared.type}", "make it a parameter of type String"
        )
    value = target_revision(declared.value.strip(), named=declared.parameter)
    return Choice(value, declared.source)


def choose_target(
    request: Request, declared: Declared | None, *, at_base: bool, follow_head: bool
) -> Choice | None:
    """
    Choose the target of a run, or ``None`` where nobody has declared one.

    The request's own target wins; else the declared target, which a bare secret has none of;
    else a person means ``head`` (the contract of the older tool), and so does an event for a
    database at base. Events leave a database past base where it is, so that deploying a build
    moves nobody by itself.

    Raises:
        InvalidField: The declared target is malformed.
    """
    if request.target is not None:
        return Choice(request.target, TargetSource.REQUEST)
    if request.instance is not None and declared is not None:
        return declared_target(declared)
    if request.is_direct or at_base or follow_head:
        return Choice(HEAD, TargetSource.DEFAULT)
    return None
