"""
Audit logging and compliance

After this, the application can have changes to its tables recorded, and nobody whom the
trail is about can change it. ``app_role`` writes in two ways only::

    CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON app_schema.orders
        FOR EACH ROW EXECUTE FUNCTION audit.record_change();
    SELECT audit.record_event('export', 'orders of May sent to the auditor', '{"rows": 12}');

``backup_role`` reads the trail, so that a backup holds it. Each entry names the login
(``session_user``), not the role it acts as.

The functions run as ``audit_role``, which can add entries and nothing else: turning a row
into JSON may call code of whoever made a column's type, and that must not run as the master.

Going back removes the functions, and with them the triggers that call them. A table with
entries stays, readable by the master only, and is taken up again by the next upgrade.
"""

from alembic import op

from core import operations

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    operations.schema("audit")
    operations.table(
        "audit.database_changes",
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_name text NOT NULL,
        operation text NOT NULL CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE')),
        old_values jsonb,
        new_values jsonb,
        changed_by text NOT NULL DEFAULT session_user,
        changed_at timestamptz NOT NULL DEFAULT now()
        """,
    )
    operations.table(
        "audit.compliance_events",
        """
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_type text NOT NULL,
        description text NOT NULL,
        details jsonb,
        recorded_by text NOT NULL DEFAULT session_user,
        recorded_at timestamptz NOT NULL DEFAULT now()
        """,
    )
    # Who and when are never given, so not even audit_role can say them wrong.
    operations.role("audit_role")
    op.execute("GRANT USAGE ON SCHEMA audit TO audit_role")
    op.execute(
        "GRANT INSERT (table_name, operation, old_values, new_values)"
        " ON audit.database_changes TO audit_role"
    )
    op.execute(
        "GRANT INSERT (event_type, description, details), SELECT (id)"
        " ON audit.compliance_events TO audit_role"
    )
    # The functions write as their owner. So their search path is fixed, and they take
    # nothing that could name another table.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION audit.record_change() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $$
            BEGIN
                INSERT INTO audit.database_changes
                    (table_name, operation, old_values, new_values)
                VALUES (
                    format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
                    TG_OP,
                    CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END,
                    CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END
                );
                RETURN NULL;
            END
            $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION audit.record_event(
            event_type text, description text, details jsonb DEFAULT NULL
        ) RETURNS bigint
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS $$
                INSERT INTO audit.compliance_events (event_type, description, details)
                VALUES ($1, $2, $3)
                RETURNING id
            $$
        """
    )
    for function in ("record_change()", "record_event(text, text, jsonb)"):
        op.execute(f"REVOKE ALL ON FUNCTION audit.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION audit.{function} TO app_role")
    # To be given a function takes CREATE on its schema, for as long as it is given.
    op.execute("GRANT CREATE ON SCHEMA audit TO audit_role")
    for function in ("record_change()", "record_event(text, text, jsonb)"):
        op.execute(f"ALTER FUNCTION audit.{function} OWNER TO audit_role")
    op.execute("REVOKE CREATE ON SCHEMA audit FROM audit_role")
    op.execute("GRANT USAGE ON SCHEMA audit TO app_role, backup_role")
    op.execute("GRANT SELECT ON ALL TABLES IN SCHEMA audit TO backup_role")
    op.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA audit TO backup_role")


def downgrade() -> None:
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA audit FROM backup_role")
    op.execute("REVOKE ALL ON ALL SEQUENCES IN SCHEMA audit FROM backup_role")
    op.execute("REVOKE ALL ON SCHEMA audit FROM app_role, backup_role")
    # CASCADE: the application's triggers call it, and would fail every write without it.
    op.execute("DROP FUNCTION IF EXISTS audit.record_change() CASCADE")
    op.execute("DROP FUNCTION IF EXISTS audit.record_event(text, text, jsonb)")
    operations.drop_role("audit_role")
    operations.drop_table_if_empty("audit.compliance_events")
    operations.drop_table_if_empty("audit.database_changes")
    operations.drop_schema("audit")
