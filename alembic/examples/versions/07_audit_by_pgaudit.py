"""
Audit of single tables by pgaudit

What is granted to ``rds_pgaudit`` is what pgaudit logs: each write to ``ledger.entries``, with its
statement. In the parameter group, put ``pgaudit`` into ``shared_preload_libraries``, set
``pgaudit.role`` to ``rds_pgaudit``, and restart. Before that a warning says that nothing is logged.

Going back ends the logging and keeps the rows.
"""

from alembic import op

from core import operations

revision = "example_pgaudit"
down_revision = "example_upkeep"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("rds_pgaudit")
    operations.schema("ledger")
    operations.table("ledger.entries", "id bigint PRIMARY KEY, amount numeric NOT NULL")
    op.execute("GRANT INSERT, UPDATE, DELETE ON TABLE ledger.entries TO rds_pgaudit")
    op.execute("""
        DO $$
        BEGIN
            IF pg_catalog.current_setting('pgaudit.role', true) = 'rds_pgaudit' THEN
                CREATE EXTENSION IF NOT EXISTS pgaudit SCHEMA ledger;
            ELSE
                RAISE WARNING 'nothing is logged: pgaudit.role is not rds_pgaudit';
            END IF;
        END
        $$
    """)


def downgrade() -> None:
    op.execute("DROP EXTENSION IF EXISTS pgaudit")
    operations.drop_role("rds_pgaudit")
    operations.drop_table_if_empty("ledger.entries")
    operations.drop_schema("ledger")
