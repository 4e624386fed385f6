"""Each revision, up and down, held against the rules, less what it allows."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

from alembic.config import Config

from core.revisions import rendering, scripts
from core.revisions.folder import EXAMPLES, Folder
from core.revisions.manifest import Revision
from core.settings import INI
from infra.lint.allowances import allowances, functions
from infra.lint.reading import Reader
from infra.lint.rules import NEVER_ALLOWED, Finding


def lint(folder: Folder = EXAMPLES, ini: Path = INI) -> list[Finding]:
    """
    Return what is found in the revisions in *folder*, oldest first; *ini* has their settings.

    Raises:
        RunFailed: They cannot be listed.
    """
    is_declared = Config(str(ini)).get_main_option("revision_schema") is not None
    found: list[Finding] = []
    tables: set[tuple[str | None, str]] = set()
    for revision in scripts.read(folder.versions):
        with tokenize.open(revision.file) as opened:
            source = opened.read()
        has_note = "going back" in (ast.get_docstring(ast.parse(source)) or "").lower()
        for direction in ("upgrade", "downgrade"):
            findings = {
                Finding(revision.identifier, direction, rule, statement)
                for rule, statement in (
                    *(
                        (rule, statement)
                        for rule, statement in _run(revision, direction, tables, has_note=has_note)
                        if not (is_declared and rule == "unqualified-name")
                    ),
                    *_loose_files(revision, source, direction),
                )
            }
            allowed = allowances(source, direction) - NEVER_ALLOWED
            found += sorted(one for one in findings if one.rule not in allowed)
            found += [
                Finding(revision.identifier, direction, "useless-allowance", rule)
                for rule in sorted(allowed - {one.rule for one in findings})
            ]
    return found


def _run(
    revision: Revision, direction: str, tables: set[tuple[str | None, str]], *, has_note: bool
) -> Iterator[tuple[str, str]]:
    """
    Yield each rule that what *revision* runs breaks, with the statement that does.

    *tables* are those that the master has made so far.
    """
    statements, paper = rendering.statements(revision, direction)
    yield from (("colon", one) for one in paper.refused)
    if not paper.refused:
        yield from (
            ("unreadable", one)
            for one in paper.partial.get(revision.identifier, [])
            # There is no way back, and the revision says so.
            if f"({NotImplementedError.__name__}:" not in one
        )
    reader = Reader(has_note=has_note, masters=tables)
    for statement in statements:
        # What a helper's own block puts together is proven by the helper's tests.
        reader.is_ours = statement in paper.ours
        # On the way up a helper drops only what it has just given back to its role.
        reader.known.has_note = has_note or (reader.is_ours and direction == "upgrade")
        reader.read(statement)
    yield from reader.known.found


def _loose_files(revision: Revision, source: str, direction: str) -> Iterator[tuple[str, str]]:
    """Yield where the function *direction* reads a file by itself."""
    for function in functions(source, direction):
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Name(id="open")
                    | ast.Attribute(attr="open" | "read_text" | "read_bytes")
                ):
                    yield "loose-file", f"{revision.file.name}:{node.lineno}"
