"""
What must hold of each revision, and of all of them together, on one server.

Each is planned, applied, held against its promises, taken back and applied again, as the master
of an RDS instance, by the code that the function runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core.errors import MigrationError
from core.model import Action
from core.postgres.beginning import session_settings
from core.postgres.masking import masked
from core.postgres.session import DriverError, query
from core.revisions import rendering
from core.revisions.manifest import Revision
from core.revisions.promises import PromisedRole, PromisedThing
from infra.trial import files, promising
from infra.trial.catalogue import differences, name_in, sections
from infra.trial.database import BUDGET_SECONDS, DATABASE, TrialDatabase

# What day2 itself keeps in the database: its tests are day2's.
_NOT_THEIRS = ("day2",)
_RETIRED = "day2_retired_"
# What a plan begins and ends itself cannot be tried and taken back.
_ENDS_TRANSACTION = ("COMMIT;", "BEGIN;")
_MOST_LINES = 30

Catalogue = dict[str, list[str]]


class Told(NamedTuple):
    """What came of one revision: a line for the person, and what is wrong."""

    revision: str
    line: str
    faults: list[str]


@dataclass
class Proofs:
    """
    The proofs of a folder on the server of one *database*.

    Attributes:
        made: What the revisions made of an empty database, once all of them are applied.
    """

    database: TrialDatabase
    made: list[str] = field(default_factory=list)
    _stuck: list[str] = field(default_factory=list)

    def each(self) -> Iterator[Told]:
        """
        Prove each revision, oldest first.

        After one that cannot be applied there is no next; nor a way of all together, after one
        that cannot be taken back.
        """
        self._empty = now = self._catalogue()
        for revision in self.database.revisions.history:
            told, after = self._one(revision, now)
            yield told
            if after is None:
                return
            now = after
        self.made = differences(self._empty, now)
        if self._stuck:
            names = ", ".join(self._stuck)
            yield Told("all", f"not taken back together: see {names}", [])
            return
        yield from self._all_the_way(now)

    def _one(self, revision: Revision, before: Catalogue) -> tuple[Told, Catalogue | None]:
        begin = time.monotonic()
        name, faults, said = revision.identifier, [], []
        planned, why_not, fault = self._planned(revision)
        if problem := self._applied(name):
            return Told(name, "not applied", [problem]), None
        after = self._catalogue()
        said.append("applied")
        if planned is None:
            said += [why_not] if why_not else []
            faults += [fault] if fault else []
        elif planned != after:
            faults.append(
                "its plan, run as it is shown, makes something else than the run does; beside "
                + _shown(after, planned)
            )
        else:
            said.append("as planned")
        faults += [*self._unpromised(name, before, after), *self._drift()]
        back, problems, is_there = self._taken_back(revision, before, after)
        said.append(back)
        faults += problems
        seconds = time.monotonic() - begin
        told = Told(name, f"{', '.join(said)} ({seconds:.1f} s)", faults)
        return told, after if is_there else None

    def _planned(self, revision: Revision) -> tuple[Catalogue | None, str, str]:
        """Return what the plan of *revision* makes, tried and taken back; or why not or a fault."""
        statements, paper = rendering.statements(revision, "upgrade")
        if paper.refused:
            return None, "", paper.refused[0]
        if paper.partial:
            return None, "planned in part, since it looks at the database", ""
        if any(one in _ENDS_TRANSACTION for one in statements):
            return None, "its plan not tried, since it ends its transaction", ""
        with closing(self.database.server.superuser(DATABASE)) as session:
            session.autocommit = False
            settings = session_settings(session, statement_timeout_seconds=BUDGET_SECONDS)
            query(session, f"{settings}; SET search_path = pg_catalog, public, pg_temp")
            query(session, f'SET SESSION AUTHORIZATION "{self.database.master}"')
            try:
                with session.cursor() as cursor:
                    for statement in statements:
                        if not _is_comment(statement):
                            cursor.execute(statement)
            except DriverError as error:
                reason = masked(str(error)).splitlines()[0]
                return None, "", f"its plan, run as it is shown, fails: {reason}"
            query(session, "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL")
            return sections(session, without=_NOT_THEIRS), "", ""

    def _applied(self, name: str) -> str | None:
        """Apply the revision *name*, and return why it could not be."""
        try:
            result = self.database.run(target=name)
        except MigrationError as error:
            at = getattr(error, "at", None)
            return f"{f'{at}: ' if at else ''}{error}"
        applied = result.report.applied
        return None if applied == [name] else f"a run to {name} applied {applied}: {result.message}"

    def _unpromised(self, name: str, before: Catalogue, after: Catalogue) -> Iterator[str]:
        """Yield the roles and schemas that the revision *name* made and nothing promises."""
        promises = self.database.revisions.promises
        for one in _made("roles", before, after, promises.roles):
            yield _lacking("role", one, promising.role(one, name, after))
        for one in _made("schemas", before, after, promises.schemas):
            promise = promising.schema(one, name, after, self.database.master)
            yield _lacking("schema", one, promise)

    def _drift(self) -> Iterator[str]:
        """Yield what ``check`` finds."""
        try:
            result = self.database.run(Action.CHECK, None)
        except MigrationError as error:
            yield f"check fails: {error}"
            return
        drift: Any = result.report.details["drift"]
        for one in drift:
            yield f"{one['role']}: {_said(one)}; {one['statement']} would mend it"

    def _taken_back(
        self, revision: Revision, before: Catalogue, after: Catalogue
    ) -> tuple[str, list[str], bool]:
        """
        Take *revision* back, and apply it again.

        Return a few words, what is wrong, and whether the database has the revision then.
        """
        name = revision.identifier
        if files.has_no_way_back(revision):
            return "no way back, as it says", [], True
        try:
            self.database.downgrade(name)
        except MigrationError as error:
            at = getattr(error, "at", None)
            self._stuck.append(name)
            return "not taken back", [f"downgrade: {f'{at}: ' if at else ''}{error}"], True
        faults = []
        back, reason = self._catalogue(), files.leaves(revision, self._major)
        if back != before and reason is None:
            faults.append(
                "its downgrade leaves another database than there was before (a comment in it "
                '"# test: leaves …", with the reason, says that this is meant); beside '
                + _shown(before, back)
            )
        if problem := self._applied(name):
            return "taken back, not applied again", [*faults, f"the second time: {problem}"], False
        again = self._catalogue()
        if again != after:
            faults.append("applied again, it makes something else; beside " + _shown(after, again))
        return "taken back and applied again", faults, True

    def _all_the_way(self, at_head: Catalogue) -> Iterator[Told]:
        """Prove that the whole history can be taken back at once, and applied in one run."""
        history = self.database.revisions.history
        one_way = [one.identifier for one in history if files.has_no_way_back(one)]
        if one_way:
            yield Told("all", f"not taken back together: {one_way[-1]} has no way back", [])
            return
        begin, faults = time.monotonic(), []
        try:
            self.database.downgrade(*(one.identifier for one in reversed(history)))
            back = self._catalogue()
            if back != self._empty and not any(files.leaves(one, self._major) for one in history):
                faults.append(
                    "taken back from head, they leave another database than an empty one; beside "
                    + _shown(self._empty, back)
                )
            self.database.run()
            if (again := self._catalogue()) != at_head:
                faults.append(
                    "in one run they make something else; beside " + _shown(at_head, again)
                )
        except MigrationError as error:
            faults.append(f"all the way back and up again: {error}")
        seconds = time.monotonic() - begin
        yield Told("all", f"taken back together, applied in one run ({seconds:.1f} s)", faults)

    @property
    def _major(self) -> int:
        return self.database.server.programs.major

    def _catalogue(self) -> Catalogue:
        with closing(self.database.server.superuser(DATABASE)) as session:
            return sections(session, without=_NOT_THEIRS)


def _made(
    title: str,
    before: Catalogue,
    after: Catalogue,
    promised: Iterable[PromisedRole | PromisedThing],
) -> list[str]:
    """Return the names under *title* that were not there *before*, and that nobody promised."""
    there, was_there = (set(map(name_in, lines[title])) for lines in (after, before))
    names = there - was_there - {one.name for one in promised}
    return sorted(one for one in names if not one.startswith(_RETIRED))


def _lacking(kind: str, name: str, promise: str) -> str:
    return f"it makes the {kind} {name}, which promises.toml does not name: add\n{promise}"


def _said(drift: dict[str, str]) -> str:
    """Return in words what ``check`` says."""
    privilege = drift["privilege"]
    if drift["drift"] == "missing":
        what = "it is promised, and does not exist"
        return what if privilege == "(exist)" else f"{privilege} is promised, and missing"
    if drift["drift"] == "beyond":
        return f"{privilege} is there, and promises.toml does not say so"
    return f"{privilege} is another than the revisions say"


def _is_comment(statement: str) -> bool:
    return all(not line.strip() or line.strip().startswith("--") for line in statement.splitlines())


def _shown(expected: Catalogue, found: Catalogue) -> str:
    """Return what *found* has beyond *expected* and lacks of it, below a line for the title."""
    lines = differences(expected, found)
    more = [f"    … {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return "\n".join(["what is expected:", *(f"    {one}" for one in lines[:_MOST_LINES]), *more])
