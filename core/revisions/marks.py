"""
Which roles are of our making: the comment on a role, and who could have written it.

The SQL here looks at a role that the statement around it calls ``found``, under a search path
of the catalogue alone.
"""

from __future__ import annotations

from core.postgres.session import Session, query

# How the comment on each role ends that we made, or took over by consent. The second kind is
# ours to use, and not ours to drop.
MADE = "made by day2"
TAKEN_OVER = "taken over by day2"

# Not current_user::regrole, which folds a name in capitals.
MASTER = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"


# Before 16, whoever may make roles may do anything to them, and may write a comment. Since then
# it takes the ADMIN option (PostgreSQL documentation, "COMMENT"): who had it from somebody else
# than the master could have written our mark.
_IS_FORGEABLE = f"""
    current_setting('server_version_num')::int >= 160000 AND EXISTS (
        SELECT FROM pg_auth_members AS held JOIN pg_roles AS holder ON holder.oid = held.member
        WHERE held.roleid = found.oid AND held.admin_option AND NOT holder.rolsuper
        AND held.member <> {MASTER} AND held.grantor <> {MASTER}
    )
"""
_COMMENT = "coalesce(shobj_description(found.oid, 'pg_authid'), '')"
IS_MADE = f"({_COMMENT} ~ '{MADE}$' AND NOT ({_IS_FORGEABLE}))"
IS_OURS = f"({_COMMENT} ~ '({MADE}|{TAKEN_OVER})$' AND NOT ({_IS_FORGEABLE}))"

# Since 16 it takes the ADMIN option to comment on a role.
_MAY_MARK = f"""
    current_setting('server_version_num')::int < 160000 OR EXISTS (
        SELECT FROM pg_auth_members
        WHERE roleid = found.oid AND member = {MASTER} AND admin_option
    )
"""


def mark(kind: str) -> str:
    """Return the SQL that writes the mark *kind* on the role ``found``, after what is there."""
    return f"""
        EXECUTE format('COMMENT ON ROLE %I IS %L', found.rolname,
            concat_ws('; ', shobj_description(found.oid, 'pg_authid'), '{kind}'));
    """


def mark_role(session: Session, role: str, kind: str) -> None:
    """Write the mark *kind* on *role*, if it has none and the master may."""
    query(
        session,
        f"""
        DO $day2$
        DECLARE found pg_catalog.pg_roles%ROWTYPE;
        BEGIN
            SELECT * INTO found FROM pg_roles WHERE rolname = '{role}';
            IF NOT {IS_OURS} AND ({_MAY_MARK}) THEN {mark(kind)} END IF;
        END
        $day2$
        """,
    )
