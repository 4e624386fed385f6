"""
Backup user and maintenance schema

After this, ``backup_user`` can run ``pg_dump --exclude-schema=day2``: it reads every table
and sequence of ``public``, ``app_schema`` and ``analytics``, those of tomorrow included.
(``pg_read_all_data`` would be shorter, but on 16 and newer the master may not grant it.)
``backup_role`` owns ``maintenance``, where backup jobs keep their own notes.

Going back takes away the role, the login and the access. Tables in ``maintenance`` stay,
and belong to a role that can do nothing.
"""

from core import operations

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.role("backup_role")
    operations.login("backup_user", member_of=["backup_role"])
    operations.schema("maintenance", owner="backup_role")
    operations.read_only(
        "backup_role",
        schemas=["public", "app_schema", "analytics"],
        tables_of=["app_role"],
    )


def downgrade() -> None:
    operations.drop_schema("maintenance")
    operations.drop_login("backup_user")
    operations.drop_role("backup_role")
