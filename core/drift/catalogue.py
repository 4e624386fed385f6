"""What a server's catalogue says of roles, privileges, settings and code, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PUBLIC = "PUBLIC"


class Role(NamedTuple):
    """
    A role of the server.

    Attributes:
        quoted: Its name as SQL.
        connection_limit: -1 for none.
        valid_until: When its password ends, if it does.
        is_held: The master has its privileges.
        has_iam: It enters with a token of IAM, and so would the master as one of it.
        may_connect: To this database; known of promised roles only.
    """

    name: str
    quoted: str
    is_superuser: bool
    can_login: bool
    inherits: bool
    creates_roles: bool
    creates_databases: bool
    replicates: bool
    bypasses_row_security: bool
    connection_limit: int
    valid_until: str | None
    is_held: bool
    has_iam: bool
    may_connect: bool | None


class Membership(NamedTuple):
    """That *member* has the role *held*, by *grantor*; a member may be so several times."""

    member: str
    held: str
    grantor: str | None
    is_admin: bool
    inherits: bool
    may_set: bool


class Setting(NamedTuple):
    """
    A setting that sessions start with.

    Attributes:
        role: Whose sessions; empty for all.
        database: In which database; empty for all.
        item: ``name=value``.
        category: What it is about, in the words of ``pg_settings``, if that has it.
    """

    role: str
    database: str
    item: str
    quoted_database: str | None
    category: str | None


class Thing(NamedTuple):
    """
    What can be owned: *kind* and *name* as SQL, *home* is its schema.

    Attributes:
        is_bound: To an extension, or as a sequence to the table whose owner it follows.
    """

    kind: str
    name: str
    home: str
    owner: str
    is_bound: bool


class Grant(NamedTuple):
    """A privilege on a thing, as its ACL says it."""

    to: str
    grantor: str | None
    privilege: str
    is_grantable: bool
    kind: str
    name: str
    home: str
    owner: str


class Default(NamedTuple):
    """A privilege on what *creator* will make; in all schemas where *home* is ``None``."""

    to: str
    privilege: str
    is_grantable: bool
    kind: str
    creator: str
    home: str | None


class Table(NamedTuple):
    """A table that is promised, or what stands in its place: *kind* as in ``pg_class``."""

    name: str
    kind: str
    is_unlogged: bool
    has_row_security: bool
    forces_row_security: bool
    policies: list[str]
    rules: list[str]


class TriggerRow(NamedTuple):
    """A trigger of such a table."""

    table: str
    name: str
    is_enabled: bool
    is_internal: bool
    definition: str


class Function(NamedTuple):
    """A function that runs as its owner, or that a revision makes."""

    name: str
    signature: str
    home: str
    kind: str
    owner: str
    arguments: int
    language: str
    source: str
    is_definer: bool
    settings: list[str]
    volatility: str
    is_strict: bool
    is_leakproof: bool


class Asked(NamedTuple):
    """
    What is looked at.

    Attributes:
        roles: Those that are promised.
        schemas: Those that are promised or closed, as SQL.
        tables: Those that are looked at closely, as SQL.
        functions: Those that revisions make, without arguments, as SQL.
    """

    roles: Sequence[str]
    schemas: Sequence[str]
    tables: Sequence[str]
    functions: Sequence[str]


# Whoever has one of these may read or write all there is, whatever is granted on it.
ALL_DATA = ("pg_read_all_data", "pg_write_all_data")


class Catalogue(NamedTuple):
    """All that was read, in one snapshot; *version* is the server's, such as 160004."""

    version: int
    master: str
    database: str
    roles: dict[str, Role]
    memberships: list[Membership]
    held_with_iam: list[str]
    settings: list[Setting]
    things: list[Thing]
    grants: list[Grant]
    defaults: list[Default]
    tables: list[Table]
    triggers: list[TriggerRow]
    functions: list[Function]
