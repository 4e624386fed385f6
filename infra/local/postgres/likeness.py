"""
What an RDS instance has before its master comes: roles, and who enters with a token only.

The grants are as wide as RDS documents them and no wider (RDS User Guide, "Understanding PostgreSQL
roles and permissions"): with ``pg_read_all_data`` the master could read the password hashes, and
whether RDS grants it is not known to us. What only RDS's own patches allow stays refused here:
event triggers, and replication by members of ``rds_replication``.
"""

RDS_ROLES = ("rds_superuser", "rds_password", "rds_iam", "rds_replication")
# By the major that brought them.
PREDEFINED_ROLES = {
    "pg_monitor": 10,
    "pg_signal_backend": 9,
    "pg_checkpoint": 15,
    "pg_use_reserved_connections": 16,
    "pg_create_subscription": 16,
}

# PostgreSQL documentation, "Event Trigger Functionality": login, since 17.
_LOGIN_EVENTS_SINCE = 17
# PostgreSQL documentation, "CREATE ROLE" of 16: the maker of a role gets the ADMIN option on it.
_MEMBERSHIPS_HAVE_OPTIONS_SINCE = 16

# pg_hba.conf counts a membership that only has the ADMIN option, as CREATE ROLE gives the master
# since 16 on each role that it makes.  Whether RDS counts it is not known to us: infra/AWS.md.
_OF_IAM = """
    WITH RECURSIVE held (role) AS (
        SELECT oid FROM pg_roles WHERE rolname = {user} AND NOT rolsuper
        UNION
        SELECT m.roleid FROM held JOIN pg_auth_members AS m ON m.member = held.role
        WHERE m.inherit_option OR m.set_option
    )
    SELECT FROM held WHERE role = to_regrole('rds_iam')
"""

_REFUSE_PASSWORDS = f"""
CREATE FUNCTION pg_catalog.day2_local_login() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
    BEGIN
        IF EXISTS ({_OF_IAM.format(user="session_user")}) THEN
            RAISE invalid_authorization_specification
                USING MESSAGE = format('PAM authentication failed for user "%s"', session_user);
        END IF;
    END
    $$
"""


def statements(major: int) -> list[str]:
    """Return what the superuser runs in each database that others are made from."""
    predefined = [role for role, since in PREDEFINED_ROLES.items() if major >= since]
    made = [f"CREATE ROLE {role} NOLOGIN" for role in RDS_ROLES]
    made.append(f"GRANT {', '.join(predefined)} TO rds_superuser WITH ADMIN OPTION")
    if major >= 16:
        # Before 16, CREATEROLE is enough to grant any role.
        made.append(
            f"GRANT {', '.join(RDS_ROLES[1:])} TO rds_superuser"
            " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
        )
    return made


def login_check(major: int) -> list[str]:
    """Return what refuses passwords of ``rds_iam``'s members in a database and in its copies."""
    if major < _LOGIN_EVENTS_SINCE:
        return []
    return [
        _REFUSE_PASSWORDS,
        "CREATE EVENT TRIGGER day2_local_login ON login EXECUTE FUNCTION day2_local_login()",
        "ALTER EVENT TRIGGER day2_local_login ENABLE ALWAYS",
    ]


def query_before_login(major: int) -> str | None:
    """
    Return what the front asks before a ``%s`` may log in with a password: a row, and it may not.

    None where the server itself refuses: by an event at login, or by ``pg_hba.conf``.
    """
    if _MEMBERSHIPS_HAVE_OPTIONS_SINCE <= major < _LOGIN_EVENTS_SINCE:
        return " ".join(_OF_IAM.format(user="%s").split())
    return None


def access_rules(major: int, *, kind: str, address: str) -> list[str]:
    """Return the lines of ``pg_hba.conf`` that say whose password counts."""
    everybody = f"{kind} all all {address}scram-sha-256"
    if major >= _MEMBERSHIPS_HAVE_OPTIONS_SINCE:
        return [everybody]
    # RDS asks PAM for an IAM token there; here no password is right.
    return [f"{kind} all +rds_iam {address and 'all '}reject", everybody]
