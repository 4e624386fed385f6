"""The door to Alembic: carrying out the revisions of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from core.postgres.session import Session
from core.revisions import manifest
from core.revisions.folder import Folder
from core.revisions.history import Position, Recorder, way
from core.revisions.manifest import Revision
from core.settings import INI

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from core.revisions.promises import Promises
    from core.revisions.supervisor import Supervisor


class Revisions:
    """
    The revisions of one build, loaded once.

    Alembic is imported where a revision is run, and where the build has no list of its
    revisions: a packaged run with nothing to apply does without.

    Args:
        ini: The ``alembic.ini``, which has the revisions' settings and our ``env.py`` beside it.
        folder: The folder of migrations, where that is not the one beside *ini*.
        is_layer: A layer of its own brought it, packaged; nothing else there is taken for one.

    Attributes:
        folder: Where the migrations are.
        compared: Which files were found changed, and which revisions passed over, by where the
            database was that said so.
    """

    def __init__(
        self, ini: Path = INI, folder: Folder | None = None, *, is_layer: bool = False
    ) -> None:
        self._ini = ini
        self._is_layer = is_layer
        self.folder = folder or Folder(ini.parent / "alembic")
        self.compared: dict[Position, tuple[list[str], list[str]]] = {}

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(self._config())

    def _config(self, **attributes: object) -> Config:
        from alembic.config import Config

        config = Config(str(self._ini))
        config.attributes.update(attributes)
        return config

    @cached_property
    def history(self) -> tuple[Revision, ...]:
        """
        All revisions, oldest first: one line from one base to one head.

        Raises:
            RunFailed: A script cannot be read, the revisions are not one line, or the layer is
                not whole.
        """
        if self._is_layer:
            return manifest.read_layer(self.folder)
        listed = manifest.read(self.folder)
        if listed is not None:
            return listed
        # Imported here, as below: a packaged run with nothing to apply does without.
        from core.revisions import scripts

        return scripts.read(self.folder.versions)

    @cached_property
    def promises(self) -> Promises:
        """
        What they promise to leave behind.

        Raises:
            RunFailed: The file has a table or a field that nobody reads, or lacks one.
        """
        from core.revisions.promises import Promises

        return Promises.load(self.folder.promises)

    @cached_property
    def identifiers(self) -> tuple[str, ...]:
        """The identifiers of the history, oldest first."""
        return tuple(revision.identifier for revision in self.history)

    @cached_property
    def descriptions(self) -> Mapping[str, str]:
        """What each revision does, by identifier."""
        return {revision.identifier: revision.description for revision in self.history}

    def up_to(self, revision: str | None) -> tuple[str, ...]:
        """Return the identifiers up to *revision*; none for base or one that is not ours."""
        if revision not in self.identifiers:
            return ()
        return self.identifiers[: self.identifiers.index(revision) + 1]

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """The checksum of each revision's file, by identifier."""
        return {revision.identifier: revision.checksum for revision in self.history}

    def run(
        self,
        session: Session,
        revisions: Sequence[str],
        *,
        upward: bool,
        recorder: Recorder,
        supervisor: Supervisor,
        attributes: Mapping[str, object],
    ) -> None:
        """
        Carry out *revisions* in the order given, each in a transaction of its own.

        The first is begun in any case, and each further one if *supervisor* says so: its
        transaction is then opened in one round trip with the commit of the one before it.

        Raises:
            RevisionFailed: A revision failed; the database has what came before it.
        """
        # Imported here: a run with nothing to apply does without Alembic and SQLAlchemy.
        from core.revisions import alembic_door, loop

        with alembic_door.environment_of(self._config(**attributes), self._scripts) as environment:
            loop.carry_out(
                environment,
                session,
                way(self.history, revisions, upward=upward),
                recorder=recorder,
                supervisor=supervisor,
            )

    def sql(self, revisions: Sequence[str], current: str | None) -> dict[str, str]:
        """
        Return the SQL that each of *revisions* would run on a database at *current*.

        Nothing is connected to and no secret is made.
        """
        from core.revisions import rendering

        return rendering.sql(self._ini, self.history, revisions, current) if revisions else {}
