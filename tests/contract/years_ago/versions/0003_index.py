# -*- coding: utf-8 -*-
"""Ein Index für später"""
import core.operations as ops

revision = "2022.07_index"
down_revision = ("0002",)


def upgrade():
    ops.index("things_price", on="years_ago.things", columns="price DESC", unique=False)
    ops.index("things_once", on="years_ago.things", columns="id, price", unique=True)


def downgrade():
    from alembic import op
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY years_ago.things_once")
        op.execute("DROP INDEX CONCURRENTLY years_ago.things_price")
