"""Roles and logins, made and taken away again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from core.access.login_passwords import Passwords
from core.operations.existing import Existing, consent, refuses
from core.operations.sending import (
    attributes,
    do,
    driver_connection,
    finds,
    note,
    on_paper,
    plain,
    quoted,
    run,
    several,
)
from core.postgres.roles import set_password
from core.revisions import marks, retiring
from core.revisions.marks import MASTER

logger = logging.getLogger(__name__)

# A membership of the master counts for RDS however long the chain. That one with the ADMIN
# option alone, which CREATE ROLE leaves since 16, does not, is an assumption: infra/AWS.md.
_ENTERS_BY_TOKEN = """
    EXISTS (
        WITH RECURSIVE held (role) AS (
            SELECT oid FROM pg_roles WHERE rolname IN (session_user, current_user)
            UNION
            SELECT m.roleid FROM held JOIN pg_auth_members AS m ON m.member = held.role
            WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
               OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
        )
        SELECT FROM held WHERE role = to_regrole('rds_iam')
    )
"""

VERIFIER_PLACEHOLDER = "<SCRAM-SHA-256 verifier, made when applied>"

_VARIABLES = f"{retiring.VARIABLES} flaws pg_catalog.text; strangers pg_catalog.text;"


def role(name: str, *, existing: Existing = "refuse") -> None:
    """
    Make the group role *name*, which cannot log in, and let the master act as it.

    One that somebody else made is refused; with *existing* ``"adopt"``, or where the request
    names it in ``take_over``, it is taken up as it is, and no downgrade drops it.
    """
    _make_role(name, existing, is_group=True)
    logger.info("role %s is there", name)


def login(
    name: str,
    *,
    acts_as: str | None = None,
    member_of: Sequence[str] = (),
    existing: Existing = "refuse",
) -> None:
    """
    Make the login *name*, with a password that only Secrets Manager knows in clear.

    With *acts_as*, each of its sessions starts as that role, so that what it creates
    belongs to the role and not to the login. *member_of* are roles whose privileges it has.
    The password of a login that exists together with its secret is never reset. *existing*
    as in :func:`role`; a login whose secret we have is ours.
    """
    if on_paper():
        note(f"the password of {name} depends on the database and on Secrets Manager")
        _make_role(name, existing)
        run(f"ALTER ROLE {quoted(name)} LOGIN PASSWORD '{VERIFIER_PLACEHOLDER}'")
    else:
        is_there = _role_exists(name)
        has_secret = is_there and not _passwords().needs_setting(name)
        _make_role(name, existing, is_known=has_secret)
        known = _passwords().password(name, role_exists=is_there)
        run(f"ALTER ROLE {quoted(name)} LOGIN")
        if known.must_be_set:
            # On the very connection of the revision, so that it is part of its transaction.
            set_password(driver_connection(), name, known.password)
    _act(name, acts_as, member_of)
    logger.info("login %s is there", name)


def login_by_iam(
    name: str,
    *,
    acts_as: str | None = None,
    member_of: Sequence[str] = (),
    existing: Existing = "refuse",
) -> None:
    """
    Make the login *name*, which enters with an IAM token and has no password.

    A member of ``rds_iam`` cannot log in with a password any more, and a member of such a
    login is one too (RDS User Guide, "IAM database authentication"). So the login is not
    granted to the master, which it would lock out, and the run that makes it proves after
    its commit that the master still enters. *acts_as*, *member_of* and *existing* as in
    :func:`login`.
    """
    do(
        f"""
        IF '{plain(name)}' IN (session_user, current_user) THEN
            RAISE insufficient_privilege USING
                MESSAGE = '{name} is the master: rds_iam would lock it out',
                HINT = 'Make another login for IAM.';
        END IF;
        had_token := {_ENTERS_BY_TOKEN};
        {_take_up_role(name, existing)}
        IF found.oid IS NULL THEN
            IF current_setting('server_version_num')::int >= 160000 THEN
                self_grant := current_setting('createrole_self_grant');
                PERFORM set_config('createrole_self_grant', '', true);
            END IF;
            {_create_role(name)}
            IF self_grant IS NOT NULL THEN
                PERFORM set_config('createrole_self_grant', self_grant, true);
            END IF;
        ELSIF EXISTS (
            SELECT FROM pg_auth_members WHERE roleid = found.oid AND member = {MASTER}
            AND (grantor = {MASTER} OR current_setting('server_version_num')::int < 160000)
        ) THEN
            REVOKE {quoted(name)} FROM CURRENT_USER;
        END IF;
        IF to_regrole('{retiring.heir_of(name)}') IS NOT NULL THEN
            GRANT {quoted(name)} TO CURRENT_USER;
            {retiring.give_back(name)}
            REVOKE {quoted(name)} FROM CURRENT_USER;
        END IF;
        ALTER ROLE {quoted(name)} LOGIN PASSWORD NULL;
        GRANT rds_iam TO {quoted(name)};
        {_refuse_lockout(name)}
        """,
        f"{_VARIABLES} had_token boolean; self_grant pg_catalog.text;",
    )
    _act(name, acts_as, member_of)
    made = attributes().get("iam_logins")
    if made is not None:
        made.add(name)
    logger.info("login %s is there, for IAM tokens", name)


def drop_role(name: str) -> None:
    """
    Drop the role *name*, if we made it; what it was granted goes with it.

    What it owns has code in it that runs as its owner. So it goes to a role of its own,
    ``day2_retired_…``, which cannot log in and can do nothing, and comes back to *name* when
    that is made again. A role that has something in another database of the instance stays,
    with nothing in this one; a WARNING names the database.
    """
    # One statement: nobody ever sees the master as a member of a login that RDS wants a token of.
    do(retiring.drop_role(plain(name)), retiring.VARIABLES)
    logger.info("role %s is dropped, or kept where a warning says so", name)


def drop_login(name: str) -> None:
    """Drop the login *name* as by :func:`drop_role`; its secret is kept, tagged as retired."""
    drop_role(name)
    if not on_paper() and not _role_exists(name):
        _passwords().retire(name)


def _act(name: str, acts_as: str | None, member_of: Sequence[str]) -> None:
    """Make the login *name* a member of the roles *member_of*, and act as *acts_as*."""
    groups = (*several("member_of", member_of), *([acts_as] if acts_as else []))
    if groups:
        grants = "\n".join(f"GRANT {quoted(group)} TO {quoted(name)};" for group in groups)
        do(
            f"""
            had_token := {_ENTERS_BY_TOKEN};
            {grants}
            {_refuse_lockout(name)}
            """,
            "had_token boolean;",
        )
    if acts_as:
        run(f"ALTER ROLE {quoted(name)} SET role = {quoted(acts_as)}")


def _make_role(
    name: str, existing: Existing, *, is_group: bool = False, is_known: bool = False
) -> None:
    """Make the role *name* without LOGIN if it is not there, and act for it from now on."""
    do(
        f"""
        had_token := {_ENTERS_BY_TOKEN};
        {_take_up_role(name, existing, is_group=is_group, is_known=is_known)}
        IF found.oid IS NULL THEN
            {_create_role(name)}
        END IF;
        GRANT {quoted(name)} TO CURRENT_USER;
        {retiring.give_back(name)}
        {_refuse_lockout(name)}
        """,
        f"{_VARIABLES} had_token boolean;",
    )


def _create_role(name: str) -> str:
    return f"""
        CREATE ROLE {quoted(name)} NOLOGIN;
        COMMENT ON ROLE {quoted(name)} IS '{marks.MADE}';
    """


def _take_up_role(
    name: str, existing: Existing, *, is_group: bool = False, is_known: bool = False
) -> str:
    """
    Return the SQL that finds the role *name*, and refuses one that is not as we make it.

    *is_known* says that it is ours without a mark, by its secret.
    """
    look = f"SELECT * INTO found FROM pg_roles WHERE rolname = '{plain(name)}';"
    if not refuses(existing, name):
        return f"""
            {look}
            IF found.oid IS NOT NULL AND NOT {marks.IS_OURS} THEN
                {marks.mark(marks.TAKEN_OVER)}
            END IF;
        """
    attributes = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")
    columns = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
    flaws = [
        f"CASE WHEN found.{column} THEN '{attribute}' END"
        for column, attribute in zip(columns, attributes, strict=True)
    ]
    if is_group:
        flaws.append("CASE WHEN found.rolcanlogin THEN 'LOGIN' END")
    return f"""
        {look}
        flaws := concat_ws(' ', {", ".join(flaws)});
        IF flaws <> '' THEN
            RAISE insufficient_privilege USING
                MESSAGE = format('role {name} was there before, with %s', flaws),
                HINT = format('Take that away (ALTER ROLE {name} NO%s), or take the role up as '
                    'it is: {consent(name)}.', replace(flaws, ' ', ' NO'));
        END IF;
        IF found.oid IS NOT NULL AND NOT {marks.IS_OURS} THEN
            {marks.mark(marks.MADE) if is_known else _refuse_stranger(name)}
        END IF;
    """


def _refuse_stranger(name: str) -> str:
    return f"""
            SELECT string_agg(DISTINCT pg_get_userbyid(m.member), ', ') INTO strangers
            FROM pg_auth_members AS m
            WHERE m.roleid = found.oid AND m.member <> {MASTER} AND NOT EXISTS (
                SELECT FROM pg_auth_members AS own WHERE own.roleid = m.member
                AND own.member = {MASTER} AND own.grantor IN (10, {MASTER})
            );
            IF strangers IS NOT NULL THEN
                RAISE insufficient_privilege USING
                    MESSAGE = format(
                        'role {name} was there before, and has members: %s', strangers
                    ),
                    HINT = format('Take it from them (REVOKE {name} FROM %s), or take the role up '
                        'as it is: {consent(name)}.', strangers);
            END IF;
            RAISE insufficient_privilege USING
                MESSAGE = 'role {name} was there before, and day2 did not make it',
                HINT = 'Rename it, or take it up as it is: {consent(name)}.';
    """


def _refuse_lockout(name: str) -> str:
    return f"""
        IF NOT had_token AND {_ENTERS_BY_TOKEN} THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'as a member of {name} the master would be one of rds_iam, and its '
                    'password would be refused from then on',
                HINT = 'Take {name} from the master and from its roles, or rds_iam from {name}.';
        END IF;
    """


def _role_exists(name: str) -> bool:
    return finds(
        "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) %(name)s", name
    )


def _passwords() -> Passwords:
    """Return where the passwords of logins are kept, as a run or ``env.py`` said to Alembic."""
    passwords = attributes().get("login_passwords")
    if passwords is None:
        raise RuntimeError(
            "no place to keep passwords: set config.attributes['login_passwords'] "
            "(core.access.login_passwords.Passwords)"
        )
    return passwords  # type: ignore[no-any-return]
