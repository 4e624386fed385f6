"""Things, and who reads them"""
from typing import Sequence, Union

from alembic import op
from core.operations import (
    as_role,
    close_to_public,
    drop_schema,
    drop_table_if_empty,
    read_only,
    schema,
    sql_file as run_file,
    table,
)

revision: str = "0002"
down_revision: Union[str, Sequence[str], None] = ["3f2a9c01be77"]
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    schema("years_ago", owner="years_ago_owner", existing="refuse")
    schema("years_ago_kept")
    table("years_ago_kept.notes", "id bigint PRIMARY KEY, note text", existing="refuse")
    table("years_ago_kept.notes", columns="id bigint PRIMARY KEY, note text")
    with as_role("years_ago_owner"):
        op.execute("CREATE TABLE years_ago.things (id bigint PRIMARY KEY, price numeric)")
    read_only(
        "years_ago_readers",
        schemas=["years_ago", "years_ago_kept"],
        tables_of=("years_ago_owner",),
    )
    run_file("sql/orders.sql")
    close_to_public("years_ago")


def downgrade() -> None:
    op.execute("DROP TABLE years_ago_kept.orders")
    with as_role("years_ago_owner"):
        op.execute("DROP TABLE years_ago.things")
    drop_table_if_empty("years_ago_kept.notes")
    drop_schema("years_ago_kept")
    drop_schema("years_ago")
