"""
The SQL of revisions on paper: what they would run, as far as that is known without a database.

A revision that looks at the database, or passes a value that SQL has no literal for, is shown as
far as it goes, with a sentence for the rest. A script so written stops there when it is run: it
never says that a database has what it did not bring.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.errors import MigrationError, RunFailed
from core.revisions import scripts
from core.revisions.manifest import Revision

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationStep

# Where env.py finds what it is to render, in the attributes of Alembic's Config.
BUILD = "revisions"
PAPER = "paper"
# Where operations puts what its helpers write, in the options of Alembic's context.
OURS = "of our helpers"

_TRANSACTIONAL = ("begin", "begin_twophase", "commit", "rollback", "close", "invalidate")


class Paper:
    """
    A script that is being written: the step of ``scripts.lay``.

    Attributes:
        refused: What no run would carry out, of all its revisions.
        ours: What our own helpers wrote, no author.
        partial: The revisions that are not whole in it, and the reasons of each.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.partial: dict[str, list[str]] = {}
        self.ours: set[str] = set()

    def __call__(self, revision: Revision, direction: str) -> None:
        """Write the SQL of *revision* to the context that Alembic is in."""
        from alembic import op

        from core.revisions.dialect import Day2PostgresqlImpl, Looked, PaperConnection, Refused

        context = op.get_context()
        impl, connection = cast("Day2PostgresqlImpl", context.impl), context.connection
        notes = impl.notes = []
        impl.stop = _stop(revision.identifier)
        if self.partial:
            impl.static_output(_stop(next(iter(self.partial)), "before it "))
        context.connection = impl.connection = PaperConnection(impl)  # type: ignore[assignment]
        try:
            scripts.carry_out(revision, direction)
        except Refused as error:
            self.refused.append(f"revision {revision.identifier}: {error}")
            notes.append(str(error))
            impl.static_output(f"-- note: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # The one place that catches everything: a revision may raise anything at all.
            at = scripts.line_of(error, revision.file)
            if isinstance(error, Looked) and str(error) in _TRANSACTIONAL:
                rest = f"{at} ends or begins a transaction itself: what follows is not shown"
            elif isinstance(error, Looked) or PaperConnection.__name__ in str(error):
                rest = f"{at} looks at the database: what follows depends on it, and is not shown"
            else:
                lines = str(error).splitlines() or [""]
                kind = "" if isinstance(error, MigrationError) else f"{type(error).__name__}: "
                rest = f"{at}: what follows cannot be shown ({kind}{lines[0]})"
            notes.append(rest)
            impl.static_output(f"-- note: {rest}")
        finally:
            context.connection = impl.connection = connection
        if notes:
            self.partial[revision.identifier] = notes
            impl.static_output(impl.stop)

    def refuse(self) -> None:
        """
        Refuse the script if a run would refuse a revision of it.

        Raises:
            RunFailed: It would.
        """
        if self.refused:
            raise RunFailed(f"{'; '.join(self.refused)}; nothing was touched")


def sql(
    ini: Path, build: Sequence[Revision], revisions: Sequence[str], current: str | None
) -> dict[str, str]:
    """
    Return the SQL that each of *revisions* of *build* would run on a database at *current*.

    Nothing is connected to and no secret is made.

    Raises:
        RunFailed: A run would refuse one of them.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationStep
    from alembic.script import ScriptDirectory

    written = io.StringIO()
    starts: list[int] = []
    config = Config(str(ini))
    paper = Paper()
    config.attributes.update({BUILD: build, PAPER: paper})
    directory = ScriptDirectory.from_config(config)

    def steps(_heads: object, _migration: object) -> Iterator[MigrationStep]:
        for identifier in revisions:
            starts.append(written.tell())
            yield MigrationStep.upgrade_from_script(
                directory.revision_map, directory.get_revision(identifier)
            )

    with EnvironmentContext(
        config,
        directory,
        fn=steps,
        as_sql=True,
        starting_rev=current,
        destination_rev=revisions[-1],
        output_buffer=written,
    ):
        directory.run_env()
    paper.refuse()
    text = written.getvalue()
    ends = [*starts[1:], len(text)]
    return {
        revision: text[start:end].strip()
        for revision, start, end in zip(revisions, starts, ends, strict=True)
    }


class _Statements(io.StringIO):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def statements(revision: Revision, direction: str) -> tuple[list[str], Paper]:
    """Return what *revision* runs in one *direction*, and the paper that it would be on."""
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext

    # What it writes for: an implementation is chosen as the context is made.
    from core.revisions import dialect  # noqa: F401

    output = _Statements()
    paper = Paper()
    # A revision may ask ``alembic.context`` whether it is on paper; there are no other scripts.
    alone = EnvironmentContext(Config(), None, as_sql=True, output_buffer=output)  # type: ignore[arg-type]
    with alone as environment:
        environment.configure(dialect_name="postgresql")
        with Operations.context(environment.get_context()):
            paper(revision, direction)
        paper.ours = environment.get_context().opts.get(OURS, set())
    return [one.strip() for one in output.pieces if one.strip()], paper


def _stop(revision: str, where: str = "") -> str:
    """Return the statement that ends a script at what *revision* leaves out."""
    return (
        "DO $day2$ BEGIN RAISE EXCEPTION "
        f"'revision {revision} {where}is not whole in this script: apply it by a run'; END $day2$;"
    )
