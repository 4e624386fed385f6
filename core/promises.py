"""What the revisions promise to leave behind: read from ``alembic/promises.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.settings import ROOT


@dataclass(frozen=True, slots=True)
class PromisedRole:
    """A role; *login* is ``password``, ``iam``, or ``None`` for a role that cannot log in."""

    name: str
    since: str
    login: str | None = None


@dataclass(frozen=True, slots=True)
class PromisedThing:
    """A schema, or a table by its qualified name."""

    name: str
    since: str


@dataclass(frozen=True, slots=True)
class Promises:
    """All that a database at some revision is promised to have."""

    roles: tuple[PromisedRole, ...] = ()
    schemas: tuple[PromisedThing, ...] = ()
    tables: tuple[PromisedThing, ...] = ()

    @classmethod
    def load(cls, file: Path = ROOT / "alembic" / "promises.toml") -> Promises:
        """Read *file*; an absent one promises nothing."""
        if not file.exists():
            return cls()
        found = tomllib.loads(file.read_text())
        return cls(
            roles=tuple(PromisedRole(**one) for one in found.get("role", [])),
            schemas=tuple(PromisedThing(**one) for one in found.get("schema", [])),
            tables=tuple(PromisedThing(**one) for one in found.get("table", [])),
        )

    def up_to(self, applied: Sequence[str]) -> Promises:
        """Return what is promised once the revisions *applied* are."""
        return Promises(
            roles=tuple(one for one in self.roles if one.since in applied),
            schemas=tuple(one for one in self.schemas if one.since in applied),
            tables=tuple(one for one in self.tables if one.since in applied),
        )

    @property
    def password_logins(self) -> tuple[str, ...]:
        """The logins whose passwords are kept in Secrets Manager."""
        return tuple(role.name for role in self.roles if role.login == "password")
