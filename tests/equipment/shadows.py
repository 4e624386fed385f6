"""
A database where a stranger has put something of his own behind every name that is looked up.

What runs of it tells the server's log whose call it was: that survives a rollback, and a
transaction that may only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing

from core.postgres.session import query
from infra.local.postgres.server import Server

STRANGER = "mallory"
TEMPLATE = "shadowed"

# The owner of a database may set this for whoever connects; "$user" is the master's schema.
PATH = 'evil, "$user", public, pg_catalog'

_RAN = re.compile(r"LOG:  a stranger's (.*) ran as (\w+)")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_SYMBOL = re.compile(r"[+*/<>=~!@#%^&|`?-]+")
# What the grammar looks up by name where it writes LIKE, IN, BETWEEN and IS DISTINCT FROM.
_OF_THE_GRAMMAR = ("=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "||")

_MAKE = """
CREATE FUNCTION evil.told(what text, result anyelement) RETURNS anyelement LANGUAGE plpgsql
AS $f$ BEGIN RAISE LOG 'a stranger''s % ran as %', what, current_user; RETURN result; END $f$;

CREATE FUNCTION pg_temp.make(home text, name text, types text[], result text, is_set boolean)
RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE what text := format('%I.%I(%s)', home, name, array_to_string(types, ', '));
BEGIN
    EXECUTE format('CREATE FUNCTION %s RETURNS %s %s LANGUAGE plpgsql AS %L', what,
        CASE WHEN is_set THEN 'SETOF' END, result, format(
            'BEGIN RAISE LOG ''a stranger''''s %% ran as %%'', %L, current_user; RETURN%s; END',
            what, CASE WHEN is_set OR result = 'void' THEN '' ELSE ' NULL' END));
    RETURN true;
EXCEPTION WHEN duplicate_function OR feature_not_supported OR invalid_function_definition
    OR datatype_mismatch OR undefined_object OR wrong_object_type THEN
    RETURN false;
END $f$;

CREATE FUNCTION pg_temp.make_operator(home text, symbol text, l oid, r oid, result oid)
RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    types text[] := array_remove(
        ARRAY[format_type(nullif(l, 0), NULL), format_type(r, NULL)], NULL);
    name text := format('of an operator on %s to %s', array_to_string(types, ', '),
        format_type(result, NULL));
BEGIN
    PERFORM pg_temp.make(home, name, types, format_type(result, NULL), false);
    EXECUTE format('CREATE OPERATOR %I.%s (%s RIGHTARG = %s, FUNCTION = %I.%I)', home, symbol,
        CASE WHEN l <> 0 THEN format('LEFTARG = %s,', format_type(l, NULL)) END,
        format_type(r, NULL), home, name);
    RETURN true;
EXCEPTION WHEN duplicate_function OR undefined_function OR invalid_function_definition THEN
    RETURN false;
END $f$;

-- As PostgreSQL has it: before pg_catalog on the path, it is found first.
SELECT count(*) FILTER (WHERE pg_temp.make('evil', proname::text,
    ARRAY(SELECT format_type(t, NULL)
        FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n),
    format_type(prorettype, NULL), proretset))
FROM pg_proc WHERE pronamespace = 11 AND proname = ANY (:words:);

SELECT count(*) FILTER (WHERE
    pg_temp.make_operator('evil', oprname::text, oprleft, oprright, oprresult))
FROM pg_operator WHERE oprnamespace = 11 AND oprname = ANY (:symbols:) AND oprright <> 0;

-- A better match than PostgreSQL's own: behind pg_catalog on the path it is found all the same.
CREATE TEMP TABLE better (instead regtype, type regtype);
INSERT INTO better VALUES
    ('text', 'name'), ('text', 'varchar'), ('text', 'regclass'), ('text', '"char"'),
    ('name', 'text'), ('name', 'varchar'), ('oid', 'regclass'), ('oid', 'regrole'),
    ('oid', 'regnamespace'), ('oid', 'regproc'), ('oid', 'int4'), ('int8', 'int4'),
    ('int8', 'int2'), ('int4', 'int2'), ('int4', 'int8'), ('regclass', 'text'), ('numeric', 'int4'),
    ('numeric', 'int8'), ('float8', 'int4'), ('anyelement', 'text'), ('anyelement', 'oid'),
    ('anyelement', 'name'), ('anyelement', 'bool'), ('anyarray', 'text[]'), ('anyarray', 'oid[]'),
    ('anyarray', 'name[]'), ('"any"', 'text'), ('"any"', 'name'), ('"any"', 'oid'),
    ('"any"', 'int4'), ('"any"', 'int8'), ('"any"', 'text[]'), ('"any"', 'regclass'),
    ('timestamptz', 'date'), ('timestamp', 'timestamptz'), ('int2', 'int4');
SELECT count(*) FILTER (WHERE pg_temp.make(home, proname::text,
    ARRAY(SELECT format_type(CASE WHEN n = place THEN b.type ELSE t END, NULL)
        FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n),
    CASE WHEN prorettype::regtype::text LIKE 'any%' THEN b.type::text
        ELSE format_type(prorettype, NULL) END, proretset))
FROM pg_proc AS p, unnest(ARRAY['public', 'postgres']) AS home,
    generate_series(1, pronargs) AS place, better AS b
WHERE pronamespace = 11 AND proname = ANY (:words:) AND b.instead = proargtypes[place - 1];

SELECT count(*) FILTER (WHERE pg_temp.make(home, proname::text,
    ARRAY['text'] || array_fill(type, ARRAY[arity]), format_type(prorettype, NULL), proretset))
FROM pg_proc, unnest(ARRAY['public', 'postgres']) AS home, generate_series(1, 4) AS arity,
    unnest(ARRAY['text', 'name', 'regclass', 'oid']) AS type
WHERE pronamespace = 11 AND proname = ANY (:words:) AND provariadic = '"any"'::regtype;

SELECT count(*) FILTER (WHERE pg_temp.make_operator(home, symbol, l, r, result))
FROM (
    SELECT oprname::text AS symbol, min(oprresult) AS result FROM pg_operator
    WHERE oprnamespace = 11 AND oprname = ANY (:symbols:) GROUP BY oprname
    HAVING count(DISTINCT oprresult) = 1) AS operators,
  unnest(ARRAY['varchar', 'text', 'name', 'oid', 'regclass', 'regrole', 'int4', 'int8']::regtype[])
    AS l,
  unnest(ARRAY['varchar', 'text', 'name', 'oid', 'regclass', 'regrole', 'int4', 'int8']::regtype[])
    AS r,
  unnest(ARRAY['public', 'postgres']) AS home
WHERE NOT EXISTS (
    SELECT FROM pg_operator WHERE oprnamespace = 11 AND oprname::text = symbol
    AND oprleft = l AND oprright = r);

-- What a cast names, and what is read from.
DO $do$
DECLARE thing record;
BEGIN
    FOR thing IN
        SELECT typname AS name, CASE typtype WHEN 'b' THEN typname ELSE 'text' END AS base
        FROM pg_type WHERE typnamespace = 11 AND typname = ANY (:words:)
        AND (typtype = 'b' AND typelem = 0 OR typtype = 'p')
    LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.told(%L, true))',
            thing.name, thing.base, 'type evil.' || thing.name);
    END LOOP;
    FOR thing IN SELECT relname, (
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND atttypid <> 'anyarray'::regtype) AS columns
        FROM pg_class AS c
        WHERE relnamespace = 11 AND relkind IN ('r', 'v') AND relname = ANY (:words:)
    LOOP
        EXECUTE format('CREATE VIEW evil.%1$I AS SELECT %2$s FROM pg_catalog.%1$I'
            ' WHERE evil.told(%3$L, true)', thing.relname, thing.columns,
            'view evil.' || thing.relname);
    END LOOP;
END $do$;
"""
_COUNT = """
SELECT (SELECT count(*) FROM pg_proc WHERE proowner = me AND proname !~ '^of '),
    (SELECT count(*) FROM pg_operator WHERE oprowner = me),
    (SELECT count(*) FROM pg_type WHERE typowner = me AND typtype = 'd'),
    (SELECT count(*) FROM pg_class WHERE relowner = me AND relkind = 'v')
FROM CAST('mallory'::regrole AS oid) AS me
"""


def make_template(server: Server, statements: Iterable[str]) -> tuple[int, ...]:
    """
    Make a database that shadows all that *statements* name; return how many of each kind.

    Functions, operators, types and views, in that order, and all of mallory's.
    """
    text = "\n".join(statements)
    making = _MAKE.replace(":words:", _array(_WORD.findall(text.lower())))
    making = making.replace(":symbols:", _array([*_SYMBOL.findall(text), *_OF_THE_GRAMMAR]))
    with closing(server.superuser()) as session:
        query(session, f"CREATE ROLE {STRANGER} LOGIN")
        query(session, f"CREATE DATABASE {TEMPLATE} OWNER {server.master}")
    with closing(server.superuser(TEMPLATE)) as session:
        query(
            session,
            f"GRANT CREATE ON SCHEMA public TO {STRANGER};"
            f"CREATE SCHEMA evil AUTHORIZATION {STRANGER};"
            f"CREATE SCHEMA postgres AUTHORIZATION {STRANGER};"
            f"GRANT USAGE ON SCHEMA evil, postgres TO PUBLIC; SET ROLE {STRANGER};"
            "SET search_path = pg_catalog, pg_temp",
        )
        query(session, making)
        query(session, "GRANT SELECT ON ALL TABLES IN SCHEMA evil TO PUBLIC")
        return tuple(query(session, _COUNT)[0])


def _array(names: Iterable[str]) -> str:
    return "ARRAY[" + ", ".join(f"'{name}'" for name in sorted(set(names))) + "]::text[]"


def what_ran(log: str) -> list[str]:
    """Return what of a stranger's ran by *log*, and as whom; the tests' own look does not count."""
    return sorted({f"{what} as {who}" for what, who in _RAN.findall(log) if who != "rdsadmin"})
