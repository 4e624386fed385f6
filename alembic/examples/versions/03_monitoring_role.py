"""
A monitoring role

``monitoring`` sees statistics, settings and what every session does, and no row of a table.

Going back takes away the login and keeps its secret.
"""

from alembic import op

from core import operations

revision = "example_monitoring"
down_revision = "example_extension"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.login("monitoring")
    op.execute("GRANT pg_monitor TO monitoring")


def downgrade() -> None:
    operations.drop_login("monitoring")
