"""
Create analytics schema and read-only user

After this, ``analytics_user`` reads every table of ``public``, ``app_schema`` and
``analytics``, those included that the master or the application (``app_user``, acting as
``app_role``) creates later, and writes nowhere. The application fills ``analytics``.

Going back takes away the role, the login and the access. Tables in ``analytics`` stay.
"""

from core import operations

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("analytics_role")
    operations.login("analytics_user", member_of=["analytics_role"])
    operations.schema("analytics", owner="app_role")
    operations.read_only(
        "analytics_role",
        schemas=["public", "app_schema", "analytics"],
        tables_of=["app_role"],
    )


def downgrade() -> None:
    operations.drop_login("analytics_user")
    operations.drop_role("analytics_role")
    operations.drop_schema("analytics")
