"""
Default privileges for a migrator role

``stock_migrator`` makes the tables, ``stock_service`` uses them: it may read and write whatever
the migrator makes, from the start, and can make or change no table itself.

Going back takes away logins and access, and keeps the schema with its tables if it has any.
"""

from alembic import op

from core import operations

revision = "example_migrator"
down_revision = "example_services"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("stock_owner")
    operations.login("stock_migrator", acts_as="stock_owner")
    operations.login("stock_service")
    operations.schema("stock", owner="stock_owner")
    op.execute("GRANT USAGE ON SCHEMA stock TO stock_service")
    op.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE stock_owner IN SCHEMA stock"
        " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO stock_service"
    )
    op.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE stock_owner IN SCHEMA stock"
        " GRANT USAGE ON SEQUENCES TO stock_service"
    )


def downgrade() -> None:
    operations.drop_login("stock_service")
    operations.drop_schema("stock")
    operations.drop_login("stock_migrator")
    operations.drop_role("stock_owner")
