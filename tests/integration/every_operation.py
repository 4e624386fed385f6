"""
A history of every operation of Alembic's, one a revision, as a team would have written it.

Each is the body of an upgrade and that of its downgrade. Names are in ``shop``, a schema of its
own, so that nothing hangs on the search path.
"""

from __future__ import annotations

_S = 'schema="shop"'

HEAD = '''"""{description}"""

import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "{revision}"
down_revision = {previous!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''

# What it does: upgrade and downgrade.
EVERY_OPERATION: dict[str, tuple[str, str]] = {
    "Make a schema": ('op.execute("CREATE SCHEMA shop")', 'op.execute("DROP SCHEMA shop")'),
    "Make a schema by its construct": (
        'op.execute(sa.schema.CreateSchema("extra"))',
        'op.execute(sa.schema.DropSchema("extra"))',
    ),
    "Make a table with every kind of column": (
        f"""op.create_table(
    "orders",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("number", sa.String(20), nullable=False, comment="it's 100%: shown"),
    sa.Column("total", sa.Numeric(12, 2), server_default=sa.text("0")),
    sa.Column("state", sa.Enum("new", "paid", name="order_state", {_S})),
    sa.Column("details", pg.JSONB, server_default=sa.text("'{{}}'::jsonb")),
    sa.Column("tags", pg.ARRAY(sa.Text)),
    sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("twice", sa.Numeric, sa.Computed("total * 2", persisted=True)),
    sa.Column("paper", sa.LargeBinary),
    sa.Column("code", sa.Uuid),
    sa.Column("share", sa.Text, server_default="100%"),
    sa.CheckConstraint("total >= 0", name="total_not_negative"),
    sa.UniqueConstraint("number", name="number_once"),
    {_S},
    comment="What was ordered",
)""",
        f'op.drop_table("orders", {_S})\nop.execute("DROP TYPE shop.order_state")',
    ),
    "Make a table that refers to another": (
        f"""op.create_table(
    "lines",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey("shop.orders.id", ondelete="CASCADE")),
    sa.Column("piece", sa.Text),
    sa.Column("price", sa.Float),
    {_S},
)""",
        f'op.drop_table("lines", {_S})',
    ),
    "Make a table like another": (
        'op.execute("CREATE TABLE shop.archive (LIKE shop.orders INCLUDING DEFAULTS)")',
        f'op.drop_table("archive", {_S})',
    ),
    "Add a column": (
        f'op.add_column("lines", sa.Column("note", sa.Text), {_S})',
        f'op.drop_column("lines", "note", {_S})',
    ),
    "Add a column that is filled": (
        f"""op.add_column(
    "lines", sa.Column("amount", sa.Integer, nullable=False, server_default="1"), {_S}
)""",
        f'op.drop_column("lines", "amount", {_S})',
    ),
    "Add a column where it is missing": (
        f'op.add_column("lines", sa.Column("note", sa.Text), if_not_exists=True, {_S})',
        "pass",
    ),
    "Look at the database and add what is missing": (
        f"""found = sa.inspect(op.get_bind()).get_columns("lines", {_S})
if "looked_for" not in [one["name"] for one in found]:
    op.add_column("lines", sa.Column("looked_for", sa.Text), {_S})""",
        f'op.drop_column("lines", "looked_for", {_S})',
    ),
    "Add a column for a check": (
        f'op.add_column("lines", sa.Column("colour", sa.Text), {_S})',
        f'op.drop_column("lines", "colour", {_S})',
    ),
    "Change a column's type": (
        f'op.alter_column("lines", "price", type_=sa.Numeric(10, 2), {_S})',
        f'op.alter_column("lines", "price", type_=sa.Float, {_S})',
    ),
    "Change a column's type by an expression": (
        f"""op.alter_column(
    "lines", "colour", type_=sa.Integer, postgresql_using="length(colour)", {_S}
)""",
        f'op.alter_column("lines", "colour", type_=sa.Text, {_S})',
    ),
    "Require a column": (
        f'op.alter_column("lines", "order_id", nullable=False, {_S})',
        f'op.alter_column("lines", "order_id", nullable=True, {_S})',
    ),
    "Give a column a default": (
        f"""op.alter_column("lines", "piece", server_default="some'thing 5%", {_S})""",
        f'op.alter_column("lines", "piece", server_default=None, {_S})',
    ),
    "Give a column a default by SQL": (
        f'op.alter_column("lines", "note", server_default=sa.text("current_user"), {_S})',
        f'op.alter_column("lines", "note", server_default=None, {_S})',
    ),
    "Rename a column": (
        f'op.alter_column("lines", "note", new_column_name="remark", {_S})',
        f'op.alter_column("lines", "remark", new_column_name="note", {_S})',
    ),
    "Comment a column": (
        f"""op.alter_column("lines", "remark", comment="it's :said", {_S})""",
        f'op.alter_column("lines", "remark", comment=None, {_S})',
    ),
    "Make a column an identity": (
        f"""op.alter_column("lines", "colour", nullable=False, {_S})
op.alter_column("lines", "colour", server_default=sa.Identity(start=7), {_S})""",
        f"""op.alter_column("lines", "colour", server_default=None, {_S})
op.alter_column("lines", "colour", nullable=True, {_S})""",
    ),
    "Comment a table": (
        f'op.create_table_comment("lines", "Lines of an order", {_S})',
        f'op.drop_table_comment("lines", {_S})',
    ),
    "Rename a table": (
        f'op.rename_table("archive", "old_orders", {_S})',
        f'op.rename_table("old_orders", "archive", {_S})',
    ),
    "Drop a column": (
        f'op.drop_column("old_orders", "paper", {_S})',
        f'op.add_column("old_orders", sa.Column("paper", sa.LargeBinary), {_S})',
    ),
    "Drop a constraint": (
        f'op.drop_constraint("number_once", "orders", type_="unique", {_S})',
        f'op.create_unique_constraint("number_once", "orders", ["number"], {_S})',
    ),
    "Add a unique constraint": (
        f"""op.create_unique_constraint(
    "number_and_state", "orders", ["number", "state"], {_S}, deferrable=True, initially="DEFERRED"
)""",
        f'op.drop_constraint("number_and_state", "orders", {_S})',
    ),
    "Add a check": (
        f'op.create_check_constraint("piece_named", "lines", "length(piece) > 0", {_S})',
        f'op.drop_constraint("piece_named", "lines", {_S})',
    ),
    "Add a check by an expression": (
        f"""op.create_check_constraint(
    "price_bounded", "lines", sa.column("price").between(0, 1000), {_S},
    postgresql_not_valid=True,
)""",
        f'op.drop_constraint("price_bounded", "lines", {_S})',
    ),
    "Validate a check": (
        'op.execute("ALTER TABLE shop.lines VALIDATE CONSTRAINT price_bounded")',
        "pass",
    ),
    "Add a primary key": (
        f'op.create_primary_key("old_orders_key", "old_orders", ["id"], {_S})',
        f'op.drop_constraint("old_orders_key", "old_orders", {_S})',
    ),
    "Add a foreign key": (
        """op.create_foreign_key(
    "old_lines", "lines", "old_orders", ["order_id"], ["id"],
    source_schema="shop", referent_schema="shop", onupdate="CASCADE", postgresql_not_valid=True,
)""",
        f'op.drop_constraint("old_lines", "lines", type_="foreignkey", {_S})',
    ),
    "Drop a foreign key": (
        f'op.drop_constraint("old_lines", "lines", type_="foreignkey", {_S})',
        """op.create_foreign_key(
    "old_lines", "lines", "old_orders", ["order_id"], ["id"],
    source_schema="shop", referent_schema="shop", onupdate="CASCADE", postgresql_not_valid=True,
)""",
    ),
    "Exclude what overlaps": (
        f"""op.add_column("orders", sa.Column("during", pg.TSTZRANGE), {_S})
op.create_exclude_constraint(
    "never_at_once", "orders", (sa.column("during"), "&&"), using="gist", {_S}
)""",
        f'op.drop_column("orders", "during", {_S})',
    ),
    "Make an index": (
        f'op.create_index("orders_made", "orders", ["made_at"], {_S})',
        f'op.drop_index("orders_made", "orders", {_S})',
    ),
    "Make a unique index": (
        f'op.create_index("orders_code", "orders", ["code"], unique=True, {_S})',
        f'op.drop_index("orders_code", "orders", {_S})',
    ),
    "Make an index of an expression": (
        f'op.create_index("orders_lower", "orders", [sa.text("lower(number) DESC")], {_S})',
        f'op.drop_index("orders_lower", "orders", {_S})',
    ),
    "Make a partial index": (
        f"""op.create_index(
    "orders_open", "orders", ["number"], {_S},
    postgresql_where=sa.text("state = 'new'"), postgresql_include=["total"],
)""",
        f'op.drop_index("orders_open", "orders", {_S})',
    ),
    "Make an index by another method": (
        f"""op.create_index(
    "orders_details", "orders", ["details"], {_S},
    postgresql_using="gin", postgresql_ops={{"details": "jsonb_path_ops"}},
)""",
        f'op.drop_index("orders_details", "orders", {_S})',
    ),
    "Make an index while the table is in use": (
        f"""with op.get_context().autocommit_block():
    op.create_index(
        "lines_piece", "lines", ["piece"], {_S}, postgresql_concurrently=True,
    )""",
        f"""with op.get_context().autocommit_block():
    op.drop_index("lines_piece", "lines", {_S}, postgresql_concurrently=True)""",
    ),
    "Make an index in use, in plain SQL": (
        """with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY lines_price ON shop.lines (price DESC NULLS LAST)")""",
        """with op.get_context().autocommit_block():
    op.execute("DROP INDEX CONCURRENTLY shop.lines_price")""",
    ),
    "Do something before and after an autocommit block": (
        f"""op.add_column("lines", sa.Column("before_block", sa.Text), {_S})
with op.get_context().autocommit_block():
    op.create_index("lines_before", "lines", ["before_block"], {_S}, postgresql_concurrently=True)
op.add_column("lines", sa.Column("after_block", sa.Text), {_S})""",
        f"""op.drop_column("lines", "after_block", {_S})
op.drop_column("lines", "before_block", {_S})""",
    ),
    "Drop an index while the table is in use": (
        f"""with op.get_context().autocommit_block():
    op.drop_index("lines_price", "lines", {_S}, postgresql_concurrently=True, if_exists=True)""",
        f'op.create_index("lines_price", "lines", [sa.text("price DESC NULLS LAST")], {_S})',
    ),
    "Make an enum of its own": (
        f'pg.ENUM("small", "large", name="size", {_S}).create(op.get_bind(), checkfirst=True)',
        f'pg.ENUM(name="size", {_S}).drop(op.get_bind(), checkfirst=False)',
    ),
    "Use the enum": (
        f"""size = pg.ENUM(name="size", {_S}, create_type=False)
op.add_column("lines", sa.Column("size", size, server_default="small"), {_S})""",
        f'op.drop_column("lines", "size", {_S})',
    ),
    "Add a value to the enum": (
        """with op.get_context().autocommit_block():
    op.execute("ALTER TYPE shop.size ADD VALUE IF NOT EXISTS 'middle' BEFORE 'large'")""",
        "pass",
    ),
    "Use the value": (
        f'op.alter_column("lines", "size", server_default="middle", {_S})',
        f'op.alter_column("lines", "size", server_default="small", {_S})',
    ),
    "Rename a value of the enum": (
        """op.execute("ALTER TYPE shop.size RENAME VALUE 'small' TO 'tiny'")""",
        """op.execute("ALTER TYPE shop.size RENAME VALUE 'tiny' TO 'small'")""",
    ),
    "Insert many rows": (
        f"""orders = sa.table(
    "orders", sa.column("number"), sa.column("total", sa.Numeric),
    sa.column("state", pg.ENUM("new", "paid", name="order_state", {_S}, create_type=False)),
    sa.column("details", pg.JSONB), sa.column("tags", pg.ARRAY(sa.Text)),
    sa.column("made_at", sa.DateTime(timezone=True)), sa.column("paper", sa.LargeBinary), {_S},
)
op.bulk_insert(orders, [
    {{
        "number": f"A'{{number}}%", "total": number, "state": "new" if number % 2 else None,
        "details": {{"a:b": [number, None]}}, "tags": ["x", "it's"], "paper": bytes([0, number]),
        "made_at": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    }}
    for number in range(20)
])""",
        'op.execute("DELETE FROM shop.orders")',
    ),
    "Insert rows one by one": (
        f"""lines = sa.table("lines", *map(sa.column, ["id", "order_id", "piece"]), {_S})
op.bulk_insert(lines, [{{"id": 1, "order_id": 1, "piece": "p"}}], multiinsert=False)""",
        'op.execute("DELETE FROM shop.lines")',
    ),
    "Insert what a query finds": (
        """op.execute(
    "INSERT INTO shop.old_orders (id, number) SELECT id, number FROM shop.orders"
)""",
        'op.execute("DELETE FROM shop.old_orders")',
    ),
    "Run a text with values": (
        """op.execute(
    sa.text("UPDATE shop.orders SET details = details || :more WHERE id = :id").bindparams(
        sa.bindparam("more", {"k": "it's"}, type_=pg.JSONB), id=1
    )
)""",
        "pass",
    ),
    "Run a text with an escaped colon": (
        r"""op.execute('''UPDATE shop.orders SET details = '{"days"\\:28}' WHERE id = 2''')""",
        "pass",
    ),
    "Run an expression": (
        f"""orders = sa.table("orders", sa.column("id"), sa.column("share"), {_S})
op.execute(orders.update().where(orders.c.id.in_([3, 4])).values(share="50%"))
op.execute(orders.delete().where(orders.c.id == 5))""",
        "pass",
    ),
    "Run a statement with values on the connection": (
        """op.get_bind().execute(
    sa.text("UPDATE shop.orders SET share = :share WHERE id = :id"),
    [{"share": "a", "id": 6}, {"share": None, "id": 7}],
)""",
        "pass",
    ),
    "Run a statement of the driver": (
        """op.get_bind().exec_driver_sql(
    "UPDATE shop.orders SET share = %(share)s WHERE number LIKE '%%8%%'", {"share": "x"}
)""",
        "pass",
    ),
    "Fill a column by what the database says": (
        """found = op.get_bind().execute(sa.text("SELECT count(*) FROM shop.orders")).scalar_one()
op.execute(f"COMMENT ON COLUMN shop.orders.share IS '{found} rows'")""",
        """op.execute("COMMENT ON COLUMN shop.orders.share IS NULL")""",
    ),
    "Fill in batches": (
        """rows = 1
while rows:
    rows = op.get_bind().execute(sa.text(
        "UPDATE shop.orders SET code = gen_random_uuid() WHERE id IN"
        " (SELECT id FROM shop.orders WHERE code IS NULL LIMIT 7)"
    )).rowcount
op.execute("UPDATE shop.orders SET code = NULL")""",
        "pass",
    ),
    "Change a table in a batch": (
        f"""with op.batch_alter_table("lines", {_S}) as batch:
    batch.add_column(sa.Column("weight", sa.Integer, server_default="3"))
    batch.alter_column("weight", nullable=False)
    batch.create_index("lines_weight", ["weight"])
    batch.create_check_constraint("weight_positive", "weight > 0")
    batch.drop_column("after_block")""",
        f"""with op.batch_alter_table("lines", {_S}) as batch:
    batch.drop_column("weight")
    batch.add_column(sa.Column("after_block", sa.Text))""",
    ),
    "Make a sequence": (
        f'op.execute(sa.schema.CreateSequence(sa.Sequence("tickets", start=5, increment=5, {_S})))',
        f'op.execute(sa.schema.DropSequence(sa.Sequence("tickets", {_S})))',
    ),
    "Use the sequence": (
        """op.execute("ALTER SEQUENCE shop.tickets OWNED BY shop.lines.colour")
op.execute("SELECT nextval('shop.tickets')")""",
        'op.execute("ALTER SEQUENCE shop.tickets OWNED BY NONE")',
    ),
    "Make a view": (
        'op.execute("CREATE VIEW shop.open AS SELECT id, number FROM shop.orders WHERE total > 1")',
        'op.execute("DROP VIEW shop.open")',
    ),
    "Make the view anew": (
        """op.execute('CREATE OR REPLACE VIEW shop.open AS SELECT id, number FROM shop.orders')""",
        """op.execute(
    "CREATE OR REPLACE VIEW shop.open AS SELECT id, number FROM shop.orders WHERE total > 1"
)""",
    ),
    "Make a materialized view": (
        """op.execute(
    "CREATE MATERIALIZED VIEW shop.totals AS SELECT sum(total) FROM shop.orders"
)""",
        'op.execute("DROP MATERIALIZED VIEW shop.totals")',
    ),
    "Make a function": (
        """op.execute('''
    CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.share \\\\:= format('%s%%', coalesce(NEW.total, 0));
        RETURN NEW;
    END
    $$
''')""",
        'op.execute("DROP FUNCTION shop.touch()")',
    ),
    "Make a trigger": (
        """op.execute(
    "CREATE TRIGGER touched BEFORE UPDATE ON shop.orders"
    " FOR EACH ROW WHEN (OLD.total IS DISTINCT FROM NEW.total) EXECUTE FUNCTION shop.touch()"
)
op.execute("UPDATE shop.orders SET total = total + 1")""",
        'op.execute("DROP TRIGGER touched ON shop.orders")',
    ),
    "Make a domain and use it": (
        """op.execute("CREATE DOMAIN shop.zip AS text CHECK (VALUE ~ '^[0-9]{5}$')")
op.add_column("orders", sa.Column("zip", sa.dialects.postgresql.DOMAIN(
    "zip", sa.Text, schema="shop", create_type=False)), schema="shop")""",
        """op.drop_column("orders", "zip", schema="shop")
op.execute("DROP DOMAIN shop.zip")""",
    ),
    "Make a partitioned table": (
        f"""op.create_table(
    "events",
    sa.Column("at", sa.Date, nullable=False), sa.Column("text", sa.Text),
    {_S}, postgresql_partition_by="RANGE (at)",
)
op.execute(
    "CREATE TABLE shop.events_2024 PARTITION OF shop.events"
    " FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
)
op.create_index("events_at", "events", ["at"], {_S})""",
        f'op.drop_table("events", {_S})',
    ),
    "Protect rows": (
        """op.execute("ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY")
op.execute("CREATE POLICY everybody ON shop.orders USING (true)")""",
        """op.execute("DROP POLICY everybody ON shop.orders")
op.execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY")""",
    ),
    "Grant": (
        'op.execute("GRANT SELECT ON ALL TABLES IN SCHEMA shop TO PUBLIC")',
        'op.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA shop FROM PUBLIC")',
    ),
    "Several statements in one text": (
        """op.execute(
    "CREATE TABLE extra.a (i int); CREATE TABLE extra.b (i int); DROP TABLE extra.a"
)""",
        'op.execute("DROP TABLE extra.b")',
    ),
    "Try in a nested transaction": (
        """import contextlib
with contextlib.suppress(sa.exc.DBAPIError), op.get_bind().begin_nested():
    op.execute("SELECT 1 / 0")
op.execute("CREATE TABLE extra.after_error ()")""",
        'op.execute("DROP TABLE extra.after_error")',
    ),
    "Work by the ORM": (
        """from sqlalchemy.orm import Session
session = Session(bind=op.get_bind())
session.execute(sa.text("INSERT INTO extra.b VALUES (1), (2)"))
session.flush()""",
        'op.execute("DELETE FROM extra.b")',
    ),
    "Make tables by their metadata": (
        """tables = sa.MetaData(schema="extra")
sa.Table("m", tables, sa.Column("i", sa.Integer, primary_key=True), sa.Column("t", sa.Text))
tables.create_all(op.get_bind())""",
        'op.drop_table("m", schema="extra")',
    ),
    "Drop a table": (
        f'op.drop_table("old_orders", {_S}, if_exists=True)',
        'op.execute("CREATE TABLE shop.old_orders (id bigint, number text)")',
    ),
    "Say nothing": ("pass", "pass"),
}
