<%
    # Whatever is said, the file loads and says the same.
    mark = '"' * 3
    if mark in message:
        first = mark + message.replace("\\", "\\\\").replace('"', '\\"')
    elif "\\" in message:
        first = "r" + mark + message
    else:
        first = mark + message
%>${first}

Say here what an operator may rely on after this revision.

Going back: say what the downgrade takes away, and what it keeps.
"""

from core import operations

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    operations.role("example_role")


def downgrade() -> None:
    operations.drop_role("example_role")
