"""
Upkeep by pg_maintain

On 17 and newer ``upkeep`` may VACUUM, ANALYZE and REINDEX every table, and read none. Before
that, or where the master may not grant ``pg_maintain``, a warning says that it may not.

Going back takes away the login and keeps its secret.
"""

from alembic import op

from core import operations

revision = "example_upkeep"
down_revision = "example_migrator"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.login("upkeep")
    op.execute("""
        DO $$
        BEGIN
            IF pg_catalog.to_regrole('pg_maintain') IS NOT NULL
                AND pg_catalog.pg_has_role('pg_maintain', 'MEMBER WITH ADMIN OPTION')
            THEN
                GRANT pg_maintain TO upkeep;
            ELSE
                RAISE WARNING 'upkeep is without pg_maintain, which the master may not grant';
            END IF;
        END
        $$
    """)


def downgrade() -> None:
    operations.drop_login("upkeep")
