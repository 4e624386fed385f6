"""
A login by a token

The identifier is put together, as revisions do that a generator wrote.
"""

from core.operations import drop_login, drop_role, login_by_iam, role

revision = "-".join(("2023", "1")).replace("-", "_")
down_revision = "2022.07_index"
branch_labels = None
depends_on = None


def upgrade() -> None:
    role(name="years_ago_tokens", existing="adopt")
    login_by_iam(
        "years_ago_token", acts_as="years_ago_tokens", member_of=("years_ago_readers",), existing="adopt"
    )


def downgrade() -> None:
    drop_login(name="years_ago_token")
    drop_role(name="years_ago_tokens")
