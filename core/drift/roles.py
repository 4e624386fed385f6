"""Roles against their promises: what they are, who has them, what their sessions start with."""

from __future__ import annotations

from collections.abc import Iterator

from core.drift.catalogue import ALL_DATA, Catalogue, Membership, Role, Setting
from core.drift.ledger import Ledger, Turn
from core.drift.repairs import Repairs
from core.revisions.promises import PromisedRole, Promises

EXIST = "(exist)"
# As the helpers make it: the next revision acts as the role, and so do repairs. By its first
# letter it follows what makes the role.
HELD = "(the master acts as it)"

# What tunes, formats or logs, or belongs to an extension or an application, breaks no promise;
# of the master and of all roles these are left alone (the categories of ``pg_settings``).
_HARMLESS = (
    "Query Tuning",
    "Resource Usage",
    "Reporting and Logging",
    "Statistics",
    "Write-Ahead Log",
    "Autovacuum",
    "Vacuuming",
    "Lock Management",
    "Customized Options",
    "Client Connection Defaults / Locale and Formatting",
)


def compare_roles(
    promises: Promises, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Write into *ledger* what the promised roles should be, and what they are."""
    for role in promises.roles:
        me = repairs.sql(role.name)
        ledger.need(role.name, EXIST, f"CREATE ROLE {me}", Turn.ROLE)
        if role.login is not None:
            ledger.need(role.name, "LOGIN", f"ALTER ROLE {me} LOGIN", Turn.ROLE)
        there = catalogue.roles.get(role.name)
        if role.login != "iam" and not (there and there.has_iam):
            ledger.need(role.name, HELD, f"GRANT {me} TO CURRENT_USER", Turn.ROLE)
            if there and there.is_held:
                ledger.find(role.name, HELD, f"REVOKE {me} FROM CURRENT_USER", Turn.ROLE)
        if there:
            _compare_attributes(role, there, catalogue, ledger)
    _compare_memberships(promises, catalogue, repairs, ledger)
    _compare_settings(promises, catalogue, repairs, ledger)


def _compare_attributes(
    role: PromisedRole, there: Role, catalogue: Catalogue, ledger: Ledger
) -> None:
    change = f"ALTER ROLE {there.quoted}"
    ledger.find(role.name, EXIST, f"DROP ROLE {there.quoted}", Turn.ROLE)
    for name in _attributes(there):
        ledger.find(role.name, name, f"{change} NO{name}", Turn.ROLE)
    if role.member_of and not there.inherits:
        ledger.report(Turn.ROLE, role.name, "missing", "INHERIT", f"{change} INHERIT")
    if role.login is None:
        return
    if there.valid_until is not None:
        what = f"VALID UNTIL {there.valid_until}"
        ledger.report(Turn.ROLE, role.name, "beyond", what, f"{change} VALID UNTIL 'infinity'")
    if there.connection_limit >= 0:
        what = f"CONNECTION LIMIT {there.connection_limit}"
        ledger.report(Turn.ROLE, role.name, "beyond", what, f"{change} CONNECTION LIMIT -1")
    what = f"CONNECT ON DATABASE {catalogue.database}"
    ledger.allow(role.name, what)
    if not there.may_connect:
        ledger.report(Turn.ROLE, role.name, "missing", what, f"GRANT {what} TO {there.quoted}")


def _attributes(there: Role) -> Iterator[str]:
    """Yield what *there* may do beyond being a group."""
    for name, has in (
        ("LOGIN", there.can_login),
        ("SUPERUSER", there.is_superuser),
        ("CREATEROLE", there.creates_roles),
        ("CREATEDB", there.creates_databases),
        ("REPLICATION", there.replicates),
        ("BYPASSRLS", there.bypasses_row_security),
    ):
        if has:
            yield name


def _compare_memberships(
    promises: Promises, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Compare who is a member of what, where a promised role or the master takes part."""
    names = {role.name for role in promises.roles}
    promised = {
        (role.name, held)
        for role in promises.roles
        for held in (
            *role.member_of,
            *([role.acts_as] if role.acts_as else []),
            *(["rds_iam"] if role.login == "iam" else []),
        )
    }
    for member, held in sorted(promised):
        give = f"GRANT {repairs.sql(held)} TO {repairs.sql(member)}"
        ledger.need(member, f"member of {repairs.sql(held)}", give, Turn.ROLE)
        _compare_options(member, held, catalogue, repairs, ledger)
    for one in catalogue.memberships:
        member, what = one.member, f"member of {repairs.sql(one.held)}"
        take = repairs.revoke_membership(one.held, member, one.grantor)
        if one.is_admin and (member, one.held) not in promised:
            take += " CASCADE"
        if (member, one.held) in promised or _is_a_strangers(one, names, catalogue):
            ledger.find(member, what, take, Turn.ROLE)
        if one.is_admin and (member, one.held) in promised:
            take = repairs.revoke_membership(one.held, member, one.grantor, "ADMIN OPTION FOR ")
            ledger.find(member, f"{what} WITH ADMIN OPTION", f"{take} CASCADE", Turn.ROLE)
    for held in catalogue.held_with_iam:
        # A promised group that came to have rds_iam is told as such; the master keeps the group.
        if held in names and (held, "rds_iam") not in promised:
            continue
        what = f"member of {repairs.sql(held)}" + (
            ", which has rds_iam" if held != "rds_iam" else ""
        )
        for one in catalogue.memberships:
            if (one.member, one.held) == (catalogue.master, held) and (one.inherits or one.may_set):
                take = repairs.revoke_membership(held, catalogue.master, one.grantor)
                what = f"{what}: RDS then refuses the master's password"
                ledger.report(Turn.ROLE, catalogue.master, "beyond", what, take)
                break


def _is_a_strangers(one: Membership, names: set[str], catalogue: Catalogue) -> bool:
    """Say whether membership *one* is somebody's whom nobody promised it to."""
    member = catalogue.roles[one.member]
    if one.member in names:
        return True
    if one.member in (catalogue.master, "rds_superuser") or member.is_superuser:
        return False
    return one.held in names or one.held == catalogue.master or one.held in ALL_DATA


def _compare_options(
    member: str, held: str, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Compare the options of a promised membership, which are its own since 16."""
    rows = [one for one in catalogue.memberships if (one.member, one.held) == (member, held)]
    if catalogue.version < 160000 or not rows:
        return
    for option, has in (
        ("INHERIT", any(one.inherits for one in rows)),
        ("SET", any(one.may_set for one in rows)),
    ):
        if not has:
            what = f"member of {repairs.sql(held)} WITH {option}"
            give = f"GRANT {repairs.sql(held)} TO {repairs.sql(member)} WITH {option} TRUE"
            ledger.report(Turn.ROLE, member, "missing", what, give)


def _compare_settings(
    promises: Promises, catalogue: Catalogue, repairs: Repairs, ledger: Ledger
) -> None:
    """Compare what sessions start with: of each promised role, of the master, and of all."""
    for role in promises.roles:
        items = [*role.settings, *([f"role={role.acts_as}"] if role.acts_as else [])]
        for item in items:
            name, _, value = item.partition("=")
            # A list is written as one: a comma in quotes would be part of a name.
            written = value if "," in value else "'{}'".format(value.replace("'", "''"))
            change = f"ALTER ROLE {repairs.sql(role.name)} SET {name} = {written}"
            ledger.need(role.name, f"SET {name} = {value}", change)
    promised = {role.name for role in promises.roles}
    for setting in catalogue.settings:
        if setting.role not in promised and _is_harmless(setting):
            continue
        name, _, value = setting.item.partition("=")
        where = f" IN DATABASE {setting.quoted_database}" if setting.quoted_database else ""
        if setting.role:
            change = f"ALTER ROLE {repairs.sql(setting.role)}{where} RESET {name}"
        elif where:
            change = f"ALTER DATABASE {setting.quoted_database} RESET {name}"
        else:
            change = f"ALTER ROLE ALL RESET {name}"
        if name == "role" and setting.role not in promised:
            # Who repairs it starts as that role as well.
            change = f"SET ROLE NONE; {change}"
        ledger.find(setting.role or "PUBLIC", f"SET {name} = {value}{where}", change)


def _is_harmless(setting: Setting) -> bool:
    name = setting.item.partition("=")[0]
    if setting.category is None:
        # ``role`` is not in pg_settings everywhere; what has a dot is an application's own.
        return "." in name
    return setting.category.startswith(_HARMLESS) or name.endswith("_timeout")
