"""The same trivial revisions, written for each tool."""

from __future__ import annotations

from pathlib import Path

REVISION = '''"""Revision {identifier}"""

from alembic import op

revision = "{identifier}"
down_revision = {previous!r}


def upgrade() -> None:
    op.execute("{up}")


def downgrade() -> None:
    op.execute("{down}")
'''

# As `alembic init` writes it, without models and comments.
ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


def statements(count: int) -> list[str]:
    """Return the SQL of *count* revisions."""
    return [f"CREATE SCHEMA IF NOT EXISTS s_{number}" for number in range(1, count + 1)]


def write_alembic(versions: Path, count: int) -> None:
    """Write *count* revisions into the folder *versions*."""
    versions.mkdir(parents=True, exist_ok=True)
    previous = None
    for number, up in enumerate(statements(count), start=1):
        identifier = f"{number:05d}"
        text = REVISION.format(
            identifier=identifier, previous=previous, up=up, down=f"DROP SCHEMA s_{number}"
        )
        (versions / f"{identifier}_schema.py").write_text(text)
        previous = identifier


def write_usual_alembic(folder: Path, count: int, url: str) -> None:
    """Write a whole Alembic project as most people have it."""
    write_alembic(folder / "alembic" / "versions", count)
    (folder / "alembic" / "env.py").write_text(ENV)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/alembic\npath_separator = os\n"
        f"sqlalchemy.url = {url}\n"
    )


def write_sql(folder: Path, count: int, name: str, text: str) -> None:
    """Write a file of *text* for each of *count* revisions; both take ``{number}`` and ``{up}``."""
    folder.mkdir(parents=True)
    for number, up in enumerate(statements(count), start=1):
        (folder / name.format(number=number)).write_text(text.format(number=number, up=up))


def write_psql(file: Path, count: int) -> None:
    """Write one script for psql: a transaction for each revision and its version row."""
    lines = ["CREATE TABLE version (number varchar(32) NOT NULL);"]
    lines += ["INSERT INTO version VALUES ('base');"]
    for number, up in enumerate(statements(count), start=1):
        lines += ["BEGIN;", f"{up};", f"UPDATE version SET number = '{number:05d}';", "COMMIT;"]
    file.write_text("\n".join(lines) + "\n")


def write_sqitch(folder: Path, count: int) -> None:
    """Write a sqitch project of *count* changes, each of which deploys in one transaction."""
    write_sql(folder / "deploy", count, "{number:05d}.sql", "BEGIN;\n{up};\nCOMMIT;\n")
    (folder / "sqitch.conf").write_text(
        "[core]\n\tengine = pg\n[user]\n\tname = day2\n\temail = day2@example.com\n"
    )
    lines = ["%syntax-version=1.0.0", "%project=benchmark", ""]
    lines += [
        f"{number:05d} 2026-01-01T00:00:00Z day2 <day2@example.com> # Revision"
        for number in range(1, count + 1)
    ]
    (folder / "sqitch.plan").write_text("\n".join(lines) + "\n")
