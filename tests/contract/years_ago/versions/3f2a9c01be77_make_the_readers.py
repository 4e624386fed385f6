"""make the readers

Revision ID: 3f2a9c01be77
Revises: 
Create Date: 2021-03-04 10:11:12.131415

"""
from alembic import op
import sqlalchemy as sa

from core import operations


# revision identifiers, used by Alembic.
revision = '3f2a9c01be77'
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    operations.role('years_ago_readers')
    operations.role('years_ago_owner', existing='refuse')
    operations.login('years_ago_reports', acts_as=None, member_of=['years_ago_readers'], existing='refuse')
    operations.login('years_ago_app', acts_as='years_ago_owner')
    op.execute(sa.text("COMMENT ON ROLE years_ago_readers IS 'who read; made by day2'"))


def downgrade():
    operations.drop_login('years_ago_app')
    operations.drop_login('years_ago_reports')
    operations.drop_role('years_ago_owner')
    operations.drop_role('years_ago_readers')
