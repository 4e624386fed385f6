"""What the revisions promise to leave behind: read from the ``promises.toml`` beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import RunFailed
from core.revisions.folder import EXAMPLES

# Stands for whom the function connects as.
MASTER = "MASTER"


class PromisedRole(NamedTuple):
    """
    A role.

    Attributes:
        login: ``password``, ``iam``, or ``None`` for a role that cannot log in.
        acts_as: The role that each of its sessions starts as.
        settings: What else its sessions start with, each as ``name=value``.
        member_of: The roles whose privileges it has.
        owns: What it owns beside schemas, such as ``function audit.record_change()``.
        is_internal: Serves our own functions only, so that ``adopt`` does not ask for it.
        can: What it can do, in words for a person.
    """

    name: str
    since: str
    login: str | None = None
    acts_as: str | None = None
    settings: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()
    owns: tuple[str, ...] = ()
    is_internal: bool = False
    can: str = ""


class PromisedThing(NamedTuple):
    """A schema, or a table by its qualified name; *owner* is a role, where that is promised."""

    name: str
    since: str
    owner: str | None = None


class PromisedGrant(NamedTuple):
    """
    Privileges of one role on things.

    Attributes:
        on: As in the file, such as ``schema audit`` or ``tables in audit``.
        made_by: The roles whose future tables and sequences it holds for, too.
    """

    to: str
    since: str
    privileges: tuple[str, ...]
    on: tuple[str, ...]
    made_by: tuple[str, ...] = ()


class Allowance(NamedTuple):
    """
    What somebody may have beyond the promises, because a person said so.

    Attributes:
        role: Whose; a star stands for any part of a name.
        privileges: As ``check`` names them; a star stands for anything.
        why: For whoever reads the file.
    """

    role: str
    privileges: tuple[str, ...]
    why: str = ""


class Promises(NamedTuple):
    """All that a database at some revision is promised to have."""

    roles: tuple[PromisedRole, ...] = ()
    schemas: tuple[PromisedThing, ...] = ()
    tables: tuple[PromisedThing, ...] = ()
    closed: tuple[PromisedThing, ...] = ()
    grants: tuple[PromisedGrant, ...] = ()
    allowances: tuple[Allowance, ...] = ()

    @classmethod
    @cache
    def load(cls, file: Path = EXAMPLES.promises) -> Promises:
        """
        Read *file*, once a container; an absent one promises nothing.

        Raises:
            RunFailed: It has a table or a field that nobody reads, or lacks one.
        """
        if not file.exists():
            return cls()
        # Imported here: to look at a database takes no promise.
        import tomllib

        try:
            # With the byte order mark that some editors write, as scripts and SQL files may be.
            found = tomllib.loads(file.read_text("utf-8-sig"))
        except ValueError as error:
            # What is no TOML, and what is not in UTF-8.
            raise RunFailed(
                f"promises.toml cannot be read: {error}; nothing was touched"
            ) from error

        def entries(kind: str, make: type[Any]) -> tuple[Any, ...]:
            listed = found.pop(kind, [])
            if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
                raise RunFailed(
                    f"promises.toml: {kind} stands in other brackets than [[{kind}]]: "
                    "write these; nothing was touched"
                )
            return tuple(_entry(kind, make, entry) for entry in listed)

        promises = cls(
            roles=entries("role", PromisedRole),
            schemas=entries("schema", PromisedThing),
            tables=entries("table", PromisedThing),
            closed=entries("closed", PromisedThing),
            grants=entries("grant", PromisedGrant),
            allowances=entries("allow", Allowance),
        )
        if found:
            raise RunFailed(
                f"promises.toml: [[{next(iter(found))}]] promises nothing: write [[role]], "
                "[[schema]], [[table]], [[closed]], [[grant]] or [[allow]]; nothing was touched"
            )
        return promises

    def up_to(self, applied: Sequence[str]) -> Promises:
        """Return what is promised once the revisions *applied* are."""
        return Promises(
            roles=tuple(one for one in self.roles if one.since in applied),
            schemas=tuple(one for one in self.schemas if one.since in applied),
            tables=tuple(one for one in self.tables if one.since in applied),
            closed=tuple(one for one in self.closed if one.since in applied),
            grants=tuple(one for one in self.grants if one.since in applied),
            allowances=self.allowances,
        )

    def faults(self, identifiers: Sequence[str]) -> list[str]:
        """Return what no revision of *identifiers* would ever keep, and what is promised twice."""
        named: dict[str, tuple[Any, ...]] = {
            "role": self.roles,
            "schema": self.schemas,
            "table": self.tables,
            "closed": self.closed,
        }
        unmade = [
            f"promises.toml: [[{kind}]] {getattr(one, 'name', '') or one.to}: since = "
            f"{one.since!r} names no revision: the last ones are {', '.join(identifiers[-5:])}"
            for kind, entries in {**named, "grant": self.grants}.items()
            for one in entries
            if one.since not in identifiers
        ]
        # Nobody would know which of them counts.
        twice = [
            f"promises.toml: [[{kind}]] {name} is there {count} times: keep one"
            for kind, entries in named.items()
            for name, count in Counter(one.name for one in entries).items()
            if count > 1
        ]
        return unmade + twice

    @property
    def password_logins(self) -> tuple[PromisedRole, ...]:
        """The logins whose passwords are kept in Secrets Manager."""
        return tuple(role for role in self.roles if role.login == "password")


def _entry(kind: str, make: type[Any], entry: dict[str, Any]) -> Any:
    """
    Return one *entry* of the file.

    Raises:
        RunFailed: It has a field that nobody reads, or lacks one; the error names it.
    """
    fields: tuple[str, ...] = make._fields
    unknown = [name for name in entry if name not in fields]
    lacking = [name for name in fields if name not in {*entry, *make._field_defaults}]
    wrong = [name for name in fields if name in entry and not _fits(make, name, entry[name])]
    where = f"promises.toml: [[{kind}]] {entry.get('name', entry.get('to', ''))}".rstrip()
    if wrong:
        raise RunFailed(
            f"{where}: {wrong[0]} = {entry[wrong[0]]!r}: give {_meant(make, wrong[0])}; "
            "nothing was touched"
        )
    if unknown or lacking:
        problem = f"has {unknown[0]!r}" if unknown else f"lacks {lacking[0]!r}"
        raise RunFailed(
            f"{where} {problem}: its fields are {', '.join(fields)}; nothing was touched"
        )
    return make(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entry.items()
        }
    )


def _meant(make: type[Any], name: str) -> str:
    """Return what the field *name* is, in words."""
    if name == "login":
        return '"password" or "iam", or leave it out'
    annotation = str(make.__annotations__[name])
    if "tuple" in annotation:
        return f'a list of texts, such as {name} = ["…"]'
    return "true or false" if "bool" in annotation else "a text that is not empty"


def _fits(make: type[Any], name: str, value: object) -> bool:
    """Say whether *value* is what the field *name* takes."""
    if name == "login":
        return value in ("password", "iam")
    annotation = str(make.__annotations__[name])
    if "tuple" in annotation:
        return isinstance(value, list) and all(isinstance(one, str) and one for one in value)
    return (
        isinstance(value, bool) if "bool" in annotation else isinstance(value, str) and bool(value)
    )
