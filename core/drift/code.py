"""Functions against the revisions that make them, and code that runs as the master unasked."""

from __future__ import annotations

from core.drift.catalogue import PUBLIC, Catalogue, Function
from core.drift.ledger import Ledger, Turn
from core.drift.repairs import Repairs
from core.revisions import books
from core.revisions.made import Made, MadeFunction, plain_setting
from core.revisions.promises import Promises

_PATH = "search_path"


def compare_code(
    promises: Promises, made: Made, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Write into *ledger* which functions are gone, changed, open to their callers, or nobody's."""
    for name, definitions in made.functions.items():
        if name in made.unsure:
            continue
        for wanted in definitions:
            _compare(name, wanted, definitions, catalogue=catalogue, repairs=repairs, ledger=ledger)
    homes = {one.name for one in (*promises.schemas, *promises.closed)} | {books.SCHEMA}
    for one in catalogue.functions:
        if not one.is_definer:
            continue
        change = f"ALTER {one.kind} {one.signature}"
        is_a_strangers = one.owner != catalogue.master and one.owner not in {
            role.name for role in promises.roles
        }
        if _PATH not in _settings(one) and one.home in homes and not is_a_strangers:
            ledger.report(
                Turn.TAKE,
                PUBLIC,
                "beyond",
                f"a search_path of the caller's in {one.kind} {one.signature}, "
                "which is SECURITY DEFINER",
                f"{change} SET search_path = pg_catalog, pg_temp",
            )
        if one.owner == catalogue.master and not _is_made(one, made):
            ledger.report(
                Turn.TAKE,
                catalogue.master,
                "beyond",
                f"SECURITY DEFINER ON {one.kind} {one.signature}, which no revision made",
                f"{change} SECURITY INVOKER",
            )


def _is_made(one: Function, made: Made) -> bool:
    """Say whether a revision made *one*, as far as the SQL of the revisions can tell."""
    return one.name in made.functions or one.name in made.unsure or made.names(one.name)


def _compare(
    name: str,
    wanted: MadeFunction,
    definitions: list[MadeFunction],
    *,
    catalogue: Catalogue,
    repairs: Repairs,
    ledger: Ledger,
) -> None:
    """Compare one function; of several by one name each counts its arguments."""
    found = [
        one
        for one in catalogue.functions
        if one.name == name and (len(definitions) == 1 or one.arguments == wanted.arguments)
    ]
    what = f"{wanted.kind} {name} as its revision made it"
    if not found:
        statement = f"{wanted.statement}; REVOKE ALL ON {wanted.kind} {name} FROM PUBLIC"
        ledger.report(Turn.CODE, catalogue.master, "missing", what, statement)
    for one in found:
        if _differs(one, wanted):
            what = f"{one.kind} {one.signature} as its revision made it"
            ledger.report(
                Turn.CODE,
                one.owner,
                "changed",
                what,
                repairs.acting_for(one.owner, _or_replace(wanted)),
            )


def _or_replace(wanted: MadeFunction) -> str:
    if " OR " in wanted.statement[:20].upper():
        return wanted.statement
    return wanted.statement.replace("CREATE", "CREATE OR REPLACE", 1)


def _differs(one: Function, wanted: MadeFunction) -> bool:
    settings = {name: plain_setting(value) for name, value in _settings(one).items()}
    if one.is_definer and _PATH not in settings:
        # Told apart: it is worse than a change.
        wanted = wanted._replace(
            settings={name: value for name, value in wanted.settings.items() if name != _PATH}
        )
    return (
        one.source,
        one.language,
        one.is_definer,
        settings,
        one.volatility,
        one.is_strict,
        one.is_leakproof,
    ) != (
        wanted.source,
        wanted.language,
        wanted.is_definer,
        wanted.settings,
        wanted.volatility,
        wanted.is_strict,
        wanted.is_leakproof,
    )


def _settings(one: Function) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in one.settings)}
