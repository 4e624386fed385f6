"""Privileges against their promises: on what there is, and on what will be made."""

from __future__ import annotations

from collections.abc import Iterator

from core.drift.catalogue import PUBLIC, Catalogue, Default, Grant
from core.drift.ledger import Ledger
from core.drift.repairs import Repairs
from core.revisions import books
from core.revisions.promises import MASTER, PromisedGrant, Promises

_GRANTABLE = " WITH GRANT OPTION"


def compare_privileges(
    promises: Promises, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Write into *ledger* which privileges there should be, and which there are."""
    for grant in promises.grants:
        _promise(grant, promises, catalogue, repairs, ledger)
    names = {role.name for role in promises.roles}
    owned = {(one.kind, one.name, one.owner) for one in catalogue.things}
    for schema in promises.schemas:
        # An owner that took its own privileges away is locked out of its schema.
        if schema.owner in names and ("SCHEMA", schema.name, schema.owner) in owned:
            for privilege in ("USAGE", "CREATE"):
                on = f"{privilege} ON SCHEMA {schema.name}"
                give = f"GRANT {on} TO {repairs.sql(str(schema.owner))}"
                ledger.need(str(schema.owner), on, give)
    ours = {*(one.name for one in promises.schemas), books.SCHEMA}
    closed = {one.name for one in promises.closed}
    for one in catalogue.grants:
        if _counts(one, names, ours, closed, repairs):
            _find(one, repairs, ledger)
    for default in catalogue.defaults:
        if default.to in names or _is_nobodys(default.to, catalogue):
            _find_default(default, repairs, ledger)


def _counts(
    one: Grant, names: set[str], ours: set[str], closed: set[str], repairs: Repairs
) -> bool:
    """Say whether *one* is ours to judge."""
    if one.to == one.owner:
        return one.kind == "SCHEMA" and repairs.owners.get(one.name) == one.to in names
    if one.to in names:
        return True
    if one.to == PUBLIC:
        if one.kind == "DATABASE":
            return one.privilege == "CREATE"
        # What an application lets everybody call is its own, where the schema is not ours.
        is_its_own = one.kind in ("FUNCTION", "PROCEDURE", "TYPE") and one.owner not in (
            *names,
            repairs.catalogue.master,
        )
        return one.home in ours or (one.home in closed and not is_its_own)
    return one.home in ours and _is_nobodys(one.to, repairs.catalogue)


def _is_nobodys(role: str, catalogue: Catalogue) -> bool:
    """Say whether *role* is one that nothing is promised to: not the master, no superuser."""
    if role == catalogue.master:
        return False
    return role == PUBLIC or not catalogue.roles[role].is_superuser


def _find(one: Grant, repairs: Repairs, ledger: Ledger) -> None:
    what = f"{one.privilege} ON {one.kind} {one.name}"
    me = repairs.sql(one.to)
    cascade = " CASCADE" if one.is_grantable else ""
    if one.grantor in (one.owner, repairs.catalogue.master):
        take = f"REVOKE {what} FROM {me}{cascade}"
    else:
        # Only who granted it can revoke it, or who takes the right to grant from that one.
        take = f"REVOKE GRANT OPTION FOR {what} FROM {repairs.sql(str(one.grantor))} CASCADE"
    ledger.find(one.to, what, repairs.acting_for(one.owner, take))
    if one.is_grantable and ledger.is_promised((one.to, what)):
        take = f"REVOKE GRANT OPTION FOR {what} FROM {me} CASCADE"
        ledger.find(one.to, what + _GRANTABLE, repairs.acting_for(one.owner, take))


def _default(
    repairs: Repairs, to: str, privilege: str, kind: str, *, creator: str, home: str | None
) -> tuple[str, str, str]:
    """Return the words of a default privilege, what gives it and what takes it."""
    where = f" IN SCHEMA {home}" if home else ""
    change = f"ALTER DEFAULT PRIVILEGES FOR ROLE {repairs.new_owner(creator)}{where}"
    me = repairs.sql(to)
    return (
        f"{privilege} ON future {kind}{where} made by {creator}",
        repairs.acting_for(creator, f"{change} GRANT {privilege} ON {kind} TO {me}"),
        repairs.acting_for(creator, f"{change} REVOKE {privilege} ON {kind} FROM {me}"),
    )


def _find_default(one: Default, repairs: Repairs, ledger: Ledger) -> None:
    what, _, take = _default(
        repairs, one.to, one.privilege, one.kind, creator=one.creator, home=one.home
    )
    ledger.find(one.to, what, take)
    if one.is_grantable and ledger.is_promised((one.to, what)):
        take = take.replace(" REVOKE ", " REVOKE GRANT OPTION FOR ", 1)
        ledger.find(one.to, what + _GRANTABLE, take)


def _promise(
    grant: PromisedGrant,
    promises: Promises,
    catalogue: Catalogue,
    repairs: Repairs,
    ledger: Ledger,
) -> None:
    """Write what *grant* needs and allows."""
    makers = {catalogue.master if one == MASTER else one for one in grant.made_by}
    me = repairs.sql(grant.to)
    for on in grant.on:
        kind, _, rest = on.partition(" ")
        schema = rest.removeprefix("in ")
        for privilege in grant.privileges:
            if kind not in ("tables", "sequences"):
                what = f"{privilege} ON {kind.upper()} {rest}"
                ledger.need(grant.to, what, f"GRANT {what} TO {me}")
                continue
            for name, is_needed in _things_in(schema, kind.upper()[:-1], makers, promises, repairs):
                what = f"{privilege} ON {kind.upper()[:-1]} {name}"
                if is_needed:
                    ledger.need(grant.to, what, f"GRANT {what} TO {me}")
                else:
                    ledger.allow(grant.to, what)
            for maker in makers:
                what, give, _ = _default(
                    repairs, grant.to, privilege, kind.upper(), creator=maker, home=schema
                )
                ledger.need(grant.to, what, give)


def _things_in(
    schema: str, kind: str, makers: set[str], promises: Promises, repairs: Repairs
) -> Iterator[tuple[str, bool]]:
    """Yield each thing of *kind* in *schema*, and whether a privilege on it is needed."""
    there = [one for one in repairs.catalogue.things if one.kind == kind and one.home == schema]
    for one in there:
        # What a stranger makes in a schema that is not ours is nobody's promise.
        yield one.name, not makers or repairs.rightful_owner(one) in makers
    for table in promises.tables:
        # One that is gone is made again first.
        is_gone = table.name not in {one.name for one in there}
        if kind == "TABLE" and is_gone and table.name.partition(".")[0] == schema:
            yield table.name, True
