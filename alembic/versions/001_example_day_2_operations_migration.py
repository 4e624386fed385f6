"""
Example day-2 operations migration

The application's own role, login and schema.

After this, ``app_user`` logs in and acts as ``app_role``: what it creates belongs to the
role, so that a second application login can share it. ``app_role`` owns ``app_schema``.

PUBLIC loses schema ``public``. This cuts off every application that lives there and is
not the owner of its tables: grant it what it needs before you apply this, or leave that
line out.

Going back takes away the role, the login and the access. Tables that the application made
stay, and belong to a role that can do nothing; PUBLIC may use ``public`` again, but not
create in it.
"""

from alembic import op

from core import operations

revision = "001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("app_role")
    operations.login("app_user", acts_as="app_role")
    operations.schema("app_schema", owner="app_role")
    operations.close_to_public("public")


def downgrade() -> None:
    # lint: allow grant-to-public: it gives back what upgrade took
    # test: leaves until 14: PUBLIC without CREATE in public, as it is from 15 on
    op.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
    operations.drop_schema("app_schema")
    operations.drop_login("app_user")
    operations.drop_role("app_role")
