"""A database held against what its revisions promise."""

from __future__ import annotations

from typing import NamedTuple

from core.drift.catalogue import Asked, Catalogue
from core.drift.code import compare_code
from core.drift.ledger import Finding, Ledger
from core.drift.privileges import compare_privileges
from core.drift.repairs import Repairs
from core.drift.roles import compare_roles
from core.drift.snapshot import read
from core.drift.things import compare_things
from core.postgres.session import Session
from core.revisions import books
from core.revisions.made import Made
from core.revisions.promises import MASTER, Promises


class Comparison(NamedTuple):
    """
    What came of it.

    Attributes:
        present: What each promised role has, as promised.
        findings: Each deviation, in the order in which the repairs are run.
    """

    present: dict[str, list[str]]
    findings: list[Finding]


def compare(session: Session, promises: Promises, made: Made) -> Comparison:
    """Compare the database of *session*, which is reading, with what is promised of it."""
    asked = Asked(
        roles=[role.name for role in promises.roles],
        schemas=[one.name for one in (*promises.schemas, *promises.closed)] + [books.SCHEMA],
        tables=sorted(
            {
                *(table.name for table in promises.tables),
                *(name for name in made.tables if name.startswith(f"{books.SCHEMA}.")),
                *(table for table, _ in made.triggers),
            }
        ),
        functions=list(made.functions),
    )
    return compared(promises, made, read(session, asked))


def compared(promises: Promises, made: Made, catalogue: Catalogue) -> Comparison:
    """Compare *catalogue* with what is promised. Pure."""
    owners = {
        one.name: catalogue.master if one.owner in (None, MASTER) else str(one.owner)
        for one in promises.schemas
    }
    names = {role.name for role in promises.roles}
    repairs = Repairs(catalogue, names, {**owners, books.SCHEMA: catalogue.master})
    ledger = Ledger()
    compare_roles(promises, catalogue, repairs, ledger)
    compare_privileges(promises, catalogue, repairs, ledger)
    compare_things(promises, made, catalogue, repairs, ledger)
    compare_code(promises, made, catalogue, repairs, ledger)
    present = {
        role.name: sorted(
            what
            for owner, what in ledger.found
            if owner == role.name and ledger.is_promised((owner, what))
        )
        for role in promises.roles
    }
    return Comparison(present, ledger.findings(promises.allowances))
