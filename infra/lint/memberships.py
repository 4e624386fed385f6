"""Who is a member of whom, as far as the revisions say so."""

from __future__ import annotations

from typing import Any

from pglast.enums import RoleSpecType

_MASTERS = ("postgres", "master", "rds_superuser")
# All of them, in what is noted of memberships: no role has this name.
MASTER = "the master"
_OURSELVES = (
    RoleSpecType.ROLESPEC_CURRENT_USER,
    RoleSpecType.ROLESPEC_CURRENT_ROLE,
    RoleSpecType.ROLESPEC_SESSION_USER,
)


def name_of(role: Any) -> str:
    """Return the name of *role*, one for all names of the master's."""
    is_master = role.roletype in _OURSELVES or role.rolename in _MASTERS
    return MASTER if is_master else str(role.rolename)


def held_by_master(memberships: set[tuple[str, str]]) -> set[str]:
    """Return the roles that the master is a member of, however long the chain."""
    held = {MASTER}
    while more := {role for member, role in memberships if member in held} - held:
        held |= more
    return held
