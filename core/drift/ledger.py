"""What is needed, what is allowed and what is there, set against each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from core.revisions.promises import Allowance


class Turn(IntEnum):
    """When a repair is run: what is named later needs what is named before."""

    ROLE = 0
    SCHEMA = 1
    OWNER_OF_SCHEMA = 2
    CODE = 3
    OWNER = 4
    TAKE = 5
    GIVE = 6


class Finding(NamedTuple):
    """
    One deviation from what is promised.

    Attributes:
        turn: When its repair is run, among those of all findings.
        role: Whose; ``PUBLIC`` for everybody.
        drift: ``missing``, ``beyond`` or ``changed``.
        privilege: In words, such as ``SELECT ON TABLE audit.events``.
        statement: Repairs it; one or more statements.
    """

    turn: Turn
    role: str
    drift: str
    privilege: str
    statement: str


Key = tuple[str, str]


class Ledger:
    """
    Three sets of privileges, each named by its role and by its words.

    Attributes:
        needed: What has to be there.
        allowed: What may be there beside.
        found: What is there.
    """

    def __init__(self) -> None:
        self.needed: dict[Key, tuple[Turn, str]] = {}
        self.allowed: set[Key] = set()
        self.found: dict[Key, tuple[Turn, list[str]]] = {}
        self._others: list[Finding] = []

    def need(self, role: str, what: str, give: str, turn: Turn = Turn.GIVE) -> None:
        """Write that *role* has to have *what*, which *give* gives."""
        self.needed[role, what] = (turn, give)

    def allow(self, role: str, what: str) -> None:
        """Write that *role* may have *what*."""
        self.allowed.add((role, what))

    def find(self, role: str, what: str, take: str, turn: Turn = Turn.TAKE) -> None:
        """Write that *role* has *what*, which *take* takes; it may have it several times."""
        statements = self.found.setdefault((role, what), (turn, []))[1]
        if take not in statements:
            statements.append(take)

    def report(self, turn: Turn, role: str, drift: str, what: str, statement: str) -> None:
        """Write a deviation of another kind than a privilege."""
        self._others.append(Finding(turn, role, drift, what, statement))

    def is_promised(self, key: Key) -> bool:
        """Say whether *key* is needed or allowed by the revisions."""
        return key in self.needed or key in self.allowed

    def findings(self, allowances: Iterable[Allowance] = ()) -> list[Finding]:
        """Return all deviations that no person allowed, in the order of their repair."""
        allowances = list(allowances)
        found = [
            Finding(turn, key[0], "beyond", key[1], "; ".join(take))
            for key, (turn, take) in self.found.items()
            if not self.is_promised(key)
        ]
        found += [
            Finding(turn, key[0], "missing", key[1], give)
            for key, (turn, give) in self.needed.items()
            if key not in self.found
        ]
        return sorted(
            one
            for one in {*found, *self._others}
            if one.drift != "beyond" or not _is_allowed(one, allowances)
        )


def _is_allowed(one: Finding, allowances: Iterable[Allowance]) -> bool:
    return any(
        fnmatchcase(one.role, allowance.role)
        and any(fnmatchcase(one.privilege, pattern) for pattern in allowance.privileges)
        for allowance in allowances
    )
