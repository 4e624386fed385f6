"""
A login by IAM

``dashboards`` enters with an IAM token, has no password, and reads what ``dashboards_role`` may.
Switch IAM authentication on for the instance, and give whoever enters ``rds-db:connect``.

Going back takes away both roles.
"""

from core import operations

revision = "example_iam"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("dashboards_role")
    operations.login_by_iam("dashboards", member_of=["dashboards_role"])


def downgrade() -> None:
    operations.drop_login("dashboards")
    operations.drop_role("dashboards_role")
