"""
An extension

In a schema of its own, so that no search path needs ``public`` for it. Which extensions the
master may make is in the RDS User Guide, "Extension versions for RDS for PostgreSQL".

Going back drops it, and fails while a column, an index or a view still needs it.
"""

from alembic import op

from core import operations

revision = "example_extension"
down_revision = "example_iam"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.schema("extensions")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA extensions")


def downgrade() -> None:
    op.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
    operations.drop_schema("extensions")
