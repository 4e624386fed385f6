"""Schemas, tables and who owns what, against their promises."""

from __future__ import annotations

import re

from core.drift.catalogue import Catalogue, Table
from core.drift.ledger import Ledger, Turn
from core.drift.repairs import Repairs
from core.revisions import books
from core.revisions.made import Made, trigger_of
from core.revisions.promises import Promises

# As pg_class says it: plain and partitioned tables, and what else can have such a name.
_TABLES = ("r", "p")
_OTHERS = {
    "v": "VIEW",
    "m": "MATERIALIZED VIEW",
    "f": "FOREIGN TABLE",
    "S": "SEQUENCE",
    "c": "TYPE",
    "i": "INDEX",
    "I": "INDEX",
}


def compare_things(
    promises: Promises, made: Made, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Write into *ledger* who should own what, who does, and what of it is gone or bewitched."""
    there = {one.name for one in catalogue.things if one.kind == "SCHEMA"}
    for schema in promises.schemas:
        if schema.name not in there:
            give = f"CREATE SCHEMA {schema.name} AUTHORIZATION "
            give += repairs.new_owner(schema.owner or catalogue.master)
            ledger.report(
                Turn.SCHEMA,
                schema.owner or catalogue.master,
                "missing",
                f"SCHEMA {schema.name}",
                give,
            )
    _compare_owners(promises, catalogue, repairs, ledger)
    kept = {one.name: one for one in catalogue.tables}
    for table in promises.tables:
        one = kept.get(table.name)
        if one is None or one.kind not in _TABLES:
            _report_gone(
                table.name,
                promises=promises,
                made=made,
                catalogue=catalogue,
                repairs=repairs,
                ledger=ledger,
                in_its_place=one,
            )
    for one in catalogue.tables:
        if one.kind in _TABLES:
            _compare_table(one, made, catalogue, ledger)
    _compare_triggers(set(kept), made, catalogue, ledger)


def _compare_owners(
    promises: Promises, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """
    Compare owners.

    What is promised to a role is that role's. What else is in a promised schema is the schema's
    owner's or the master's. Elsewhere a promised role owns nothing.
    """
    names = {role.name for role in promises.roles}
    promised = {("SCHEMA", name): owner for name, owner in repairs.owners.items()}
    for role in promises.roles:
        for owned in role.owns:
            kind, _, name = owned.partition(" ")
            promised[kind.upper(), name] = role.name
    for one in catalogue.things:
        key = (one.kind, one.name)
        home_owner = repairs.owners.get(one.home)
        rightful = promised.get(key) or home_owner or catalogue.master
        what = f"own {one.kind} {one.name}"
        turn = Turn.OWNER_OF_SCHEMA if one.kind == "SCHEMA" else Turn.OWNER
        change = repairs.own(one.kind, one.name, one.home, old=one.owner, new=rightful)
        if key in promised and rightful in names:
            ledger.need(rightful, what, change, turn)
        if one.is_bound:
            continue
        if one.owner in names:
            if one.owner == home_owner and key not in promised:
                continue
            ledger.find(one.owner, what, change, turn)
        elif home_owner is not None and repairs.is_a_strangers(one):
            ledger.find(one.owner, what, change, turn)
    for (kind, name), owner in promised.items():
        if owner in names and kind != "SCHEMA":
            home = name.partition(".")[0]
            change = repairs.own(kind, name, home, old=catalogue.master, new=owner)
            if (owner, f"own {kind} {name}") not in ledger.needed:
                ledger.need(owner, f"own {kind} {name}", change, Turn.OWNER)


def _report_gone(
    name: str,
    *,
    promises: Promises,
    made: Made,
    catalogue: Catalogue,
    repairs: Repairs,
    ledger: Ledger,
    in_its_place: Table | None,
) -> None:
    """Write that a promised table is gone; what was in it is in a backup only."""
    schema = name.partition(".")[0]
    statements = [made.tables.get(name, f"-- restore {name} from a backup")]
    if in_its_place is not None:
        statements.insert(0, f"DROP {_OTHERS[in_its_place.kind]} {name}")
    for grant in promises.grants:
        for on in grant.on:
            kind, _, home = on.partition(" in ")
            if home == schema and kind == "sequences":
                statements.append(
                    f"GRANT {', '.join(grant.privileges)} ON ALL SEQUENCES IN SCHEMA {schema}"
                    f" TO {repairs.sql(grant.to)}"
                )
    statement = "; ".join(one.strip().rstrip(";") for one in statements)
    ledger.report(
        Turn.CODE,
        repairs.owners.get(schema, catalogue.master),
        "missing",
        f"TABLE {name}",
        statement,
    )


def _compare_table(one: Table, made: Made, catalogue: Catalogue, ledger: Ledger) -> None:
    """Compare what changes how a promised table is written and read."""

    def report(what: str, statement: str) -> None:
        ledger.report(
            Turn.TAKE, catalogue.master, "beyond", f"{what} ON TABLE {one.name}", statement
        )

    change = f"ALTER TABLE {one.name}"
    says_row_security = "ROW LEVEL SECURITY" in made.text.upper() and made.names(one.name)
    if one.is_unlogged and "UNLOGGED" not in made.text.upper():
        report("UNLOGGED", f"{change} SET LOGGED")
    if one.has_row_security and not says_row_security:
        report("ROW LEVEL SECURITY", f"{change} DISABLE ROW LEVEL SECURITY")
    if one.forces_row_security and not says_row_security:
        report("FORCE ROW LEVEL SECURITY", f"{change} NO FORCE ROW LEVEL SECURITY")
    for policy in one.policies:
        if not made.names(policy):
            report(f"POLICY {policy}", f"DROP POLICY {policy} ON {one.name}")
    for rule in one.rules:
        if not made.names(rule):
            report(f"RULE {rule}", f"DROP RULE {rule} ON {one.name}")


def _compare_triggers(tables: set[str], made: Made, catalogue: Catalogue, ledger: Ledger) -> None:
    """Compare the triggers of the promised tables, and those that revisions made elsewhere."""
    master = catalogue.master
    there = {(one.table, one.name): one for one in catalogue.triggers}
    for key, trigger in made.triggers.items():
        table, name = key
        what = f"TRIGGER {name} ON TABLE {table}"
        if table not in tables:
            continue
        found = there.get(key)
        if found is None:
            ledger.report(Turn.CODE, master, "missing", what, trigger.statement)
            continue
        as_found = trigger_of(found.definition)
        if as_found is not None and as_found.firing != trigger.firing:
            statement = f"DROP TRIGGER {name} ON {table}; {trigger.statement}"
            ledger.report(Turn.CODE, master, "changed", what, statement)
    for one in catalogue.triggers:
        what = f"TRIGGER {one.name} ON TABLE {one.table}"
        is_disabled_by_us = re.search(r"DISABLE\s+TRIGGER", made.text, re.IGNORECASE)
        if not one.is_internal and not made.names(one.name) and _is_kept(one.table, made):
            ledger.report(
                Turn.TAKE, master, "beyond", what, f"DROP TRIGGER {one.name} ON {one.table}"
            )
        elif not one.is_enabled and not is_disabled_by_us:
            ledger.report(
                Turn.GIVE,
                master,
                "missing",
                f"enabled {what}",
                f"ALTER TABLE {one.table} ENABLE TRIGGER {one.name}",
            )


def _is_kept(table: str, made: Made) -> bool:
    """Say whether *table* is the revisions' own, so that another's trigger is strange."""
    return table in made.tables or table.partition(".")[0] == books.SCHEMA
