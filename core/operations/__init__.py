"""
What migrations share: roles, logins, schemas, grants, and taking them away again.

Each helper is idempotent and works on PostgreSQL 14 to 18 as a master user that is no
superuser. A downgrade takes away access and keeps data: what a dropped role owned is kept
by a role that can do nothing, until the role is made again, and a schema or table that is
not empty stays. What was there before, and is not ours, is neither taken up nor dropped.

The SQL is the same for ``alembic upgrade``, ``--sql`` and ``plan``: a decision that
depends on the database is made by the database, in a DO block. A login is the one
exception, because its password is made by us, and it says so in the script.

All that ``__all__`` names is a contract with revisions that were applied years ago, and run
again on each new database. It changes only by adding, and each addition is written down
under its number in ``tests/contract/operations.toml``.
"""

from core.operations.roles import (
    drop_login,
    drop_role,
    login,
    login_by_iam,
    role,
)
from core.operations.schemas import close_to_public, drop_schema, schema
from core.operations.statements import as_role, sql_file
from core.operations.tables import drop_table_if_empty, index, read_only, table
from core.revisions import manifest

# What this build's helpers can do: the number of the newest entry there.
CONTRACT = manifest.CONTRACT

__all__ = [
    "as_role",
    "close_to_public",
    "drop_login",
    "drop_role",
    "drop_schema",
    "drop_table_if_empty",
    "index",
    "login",
    "login_by_iam",
    "read_only",
    "role",
    "schema",
    "sql_file",
    "table",
]
