"""
What becomes of the things of a role that is dropped, as SQL: kept by an heir, and given back.

Who owns a function, a view, a trigger or an index has code that runs as the owner. So what a
role leaves never becomes the master's, nor another login's: each dropped role has an heir of
its own, which cannot log in and has no privilege but to what it owns.
"""

from __future__ import annotations

import hashlib

from core.revisions.marks import IS_MADE, MADE, MASTER

VARIABLES = """
    found pg_catalog.pg_roles%ROWTYPE; heir pg_catalog.pg_roles%ROWTYPE;
    thing pg_catalog.record; elsewhere pg_catalog.text; one pg_catalog.text;
    lent pg_catalog.text[] := '{}'; given pg_catalog.text[] := '{}';
"""

# How long a role's name may be; longer ones PostgreSQL cuts (NAMEDATALEN).
_LONGEST = 63


def heir_of(role: str) -> str:
    """Return the name of the role that keeps what *role* leaves."""
    name = f"day2_retired_{role}"
    if len(name) <= _LONGEST:
        return name
    return f"day2_retired_{hashlib.sha256(role.encode()).hexdigest()[:32]}"


def drop_role(role: str) -> str:
    """Return the SQL that drops *role*, if we made it, and has its heir keep what it owns."""
    heir = heir_of(role)
    return f"""
        SELECT * INTO found FROM pg_roles WHERE rolname = '{role}';
        IF found.oid IS NULL THEN
            NULL;
        ELSIF NOT {IS_MADE} THEN
            RAISE WARNING 'role {role} was there before: it stays, with what it owns and may do';
        ELSE
            GRANT "{role}" TO CURRENT_USER;
            {_keep_elsewhere()}
            IF EXISTS (
                SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
                AND refobjid = found.oid AND deptype IN ('o', 'r') AND {_IS_HERE}
            ) THEN
                {_look_at_heir(role)}
                IF heir.oid IS NULL THEN
                    CREATE ROLE "{heir}" NOLOGIN;
                    COMMENT ON ROLE "{heir}" IS '{MADE}';
                END IF;
                GRANT "{heir}" TO CURRENT_USER;
                {_move(role, heir)}
            END IF;
            DROP OWNED BY "{role}";
            FOREACH one IN ARRAY given LOOP
                EXECUTE one;
            END LOOP;
            IF elsewhere IS NOT NULL THEN
                REVOKE "{role}" FROM CURRENT_USER;
                RAISE WARNING 'role {role} has things or rights in database %: it stays, and has '
                    'nothing in this one', elsewhere;
            ELSE
                BEGIN
                    DROP ROLE "{role}";
                EXCEPTION WHEN dependent_objects_still_exist THEN
                    ALTER ROLE "{role}" NOLOGIN;
                    REVOKE "{role}" FROM CURRENT_USER;
                    GET STACKED DIAGNOSTICS one = PG_EXCEPTION_DETAIL;
                    RAISE WARNING 'role {role} stays, and cannot log in: %', one;
                END;
            END IF;
        END IF;
    """


def give_back(role: str) -> str:
    """Return the SQL that gives *role*, which is there again, what its heir keeps."""
    heir = heir_of(role)
    return f"""
        {_look_at_heir(role)}
        IF heir.oid IS NOT NULL THEN
            SELECT * INTO found FROM pg_roles WHERE rolname = '{heir}';
            GRANT "{heir}" TO CURRENT_USER;
            {_move(heir, role)}
            DROP OWNED BY "{heir}";
            DROP ROLE "{heir}";
        END IF;
    """


_IS_HERE = """
    dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


def _look_at_heir(role: str) -> str:
    """Return the SQL that finds the heir of *role*, and refuses one that could do anything."""
    name = heir_of(role)
    return f"""
        SELECT * INTO heir FROM pg_roles WHERE rolname = '{name}';
        IF heir.oid IS NOT NULL THEN
            SELECT * INTO found FROM pg_roles WHERE rolname = '{name}';
            IF NOT {IS_MADE} OR heir.rolcanlogin OR heir.rolsuper OR heir.rolcreaterole
                OR heir.rolcreatedb OR heir.rolreplication OR heir.rolbypassrls
                OR EXISTS (
                    SELECT FROM pg_auth_members WHERE member = heir.oid
                    OR roleid = heir.oid AND member <> {MASTER}
                )
            THEN
                RAISE insufficient_privilege USING
                    MESSAGE = 'role {name}, which keeps what {role} leaves, is not as day2 makes '
                        'it: it has a member, a right, or another maker',
                    HINT = 'Take from it what it may do; or rename it, if day2 did not make it.';
            END IF;
            SELECT * INTO found FROM pg_roles WHERE rolname = '{role}';
        END IF;
    """


def _keep_elsewhere() -> str:
    """
    Return the SQL that finds what the role ``found`` has in other databases.

    REASSIGN OWNED and DROP OWNED reach databases themselves, so what they take of others is
    noted in ``given``, to be given again.
    """
    return """
        SELECT string_agg(DISTINCT datname, ', ') INTO elsewhere
        FROM pg_shdepend JOIN pg_database AS other ON other.datname <> current_database()
            AND other.oid = CASE
                WHEN dbid <> 0 THEN dbid WHEN classid = 'pg_database'::regclass THEN objid END
        WHERE refclassid = 'pg_authid'::regclass AND refobjid = found.oid;
        FOR thing IN SELECT * FROM pg_database WHERE datdba = found.oid LOOP
            IF thing.datname = current_database() THEN
                EXECUTE format('ALTER DATABASE %I OWNER TO CURRENT_USER', thing.datname);
            ELSE
                given := given || format('ALTER DATABASE %I OWNER TO %I',
                    thing.datname, found.rolname);
            END IF;
        END LOOP;
        FOR thing IN
            SELECT datname, privilege_type, is_grantable
            FROM pg_database, aclexplode(datacl) AS acl
            WHERE acl.grantee = found.oid AND datname <> current_database()
            AND datdba <> found.oid AND acl.grantor = datdba AND pg_has_role(datdba, 'USAGE')
        LOOP
            given := given || format('GRANT %s ON DATABASE %I TO %I%s', thing.privilege_type,
                thing.datname, found.rolname,
                CASE WHEN thing.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
    """


def _move(giver: str, taker: str) -> str:
    """
    Return the SQL that gives *taker* all that *giver* owns here, and its part in policies.

    To be given a function, an operator or the like takes CREATE on its schema, which is lent
    for that time (PostgreSQL documentation, "ALTER FUNCTION"); *giver* is the role ``found``.
    """
    return f"""
        FOR thing IN
            SELECT relation.oid::regclass AS name, polname, (
                SELECT string_agg(CASE user_id WHEN 0 THEN 'PUBLIC' WHEN giver.oid THEN '"{taker}"'
                    ELSE quote_ident(pg_get_userbyid(user_id)) END, ', ')
                FROM unnest(polroles) AS user_id
            ) AS roles
            FROM pg_policy JOIN pg_class AS relation ON relation.oid = polrelid
            JOIN pg_roles AS giver ON giver.rolname = '{giver}' AND giver.oid = ANY (polroles)
            WHERE pg_has_role(relowner, 'USAGE')
        LOOP
            EXECUTE format('ALTER POLICY %I ON %s TO %s', thing.polname, thing.name, thing.roles);
        END LOOP;
        FOR thing IN
            SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) = '{giver}'
        LOOP
            EXECUTE format('GRANT CREATE ON DATABASE %I TO "{taker}"', current_database());
            EXECUTE format('ALTER SCHEMA %I OWNER TO "{taker}"', thing.nspname);
            EXECUTE format('REVOKE CREATE ON DATABASE %I FROM "{taker}"', current_database());
        END LOOP;
        FOR thing IN
            SELECT DISTINCT home.nspname
            FROM pg_shdepend, pg_identify_object(classid, objid, objsubid) AS owned
            JOIN pg_namespace AS home ON home.nspname = owned.schema
            WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o'
            AND pg_get_userbyid(refobjid) = '{giver}'
            AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND NOT has_schema_privilege('{taker}', home.oid, 'CREATE')
        LOOP
            IF thing.nspname ~ '^pg_temp_' THEN
                RAISE object_in_use USING
                    MESSAGE = format('an open session has temporary things of {giver}, which go '
                        'with it alone: one of %s', (
                            SELECT string_agg(format('server process %s of %I', pid, usename), ', '
                                ORDER BY pid)
                            FROM pg_stat_activity JOIN pg_roles AS login ON login.oid = usesysid
                            WHERE datname = current_database() AND NOT rolsuper
                            AND pg_has_role(usesysid, '{giver}', 'MEMBER')
                            AND usename <> current_user)),
                    HINT = 'End it: pg_terminate_backend(its process); then try again.';
            END IF;
            EXECUTE format('GRANT CREATE ON SCHEMA %I TO "{taker}"', thing.nspname);
            lent := lent || thing.nspname::text;
        END LOOP;
        REASSIGN OWNED BY "{giver}" TO "{taker}";
        FOREACH one IN ARRAY lent LOOP
            EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM "{taker}"', one);
        END LOOP;
    """
