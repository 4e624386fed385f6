"""What is wrong with the files of a folder of migrations, before any server is asked."""

from __future__ import annotations

import ast
import re
import tokenize

from core.errors import RunFailed
from core.revisions.folder import Folder
from core.revisions.manifest import Revision
from core.revisions.runner import Revisions
from infra import imports
from infra.lint.revisions import lint

_LEFT_BEHIND = re.compile(r"#\s*test:\s*leaves\s+(?:until\s+(\d+):\s*)?(\S.*)")


def loaded(folder: Folder) -> Revisions:
    """
    Return the revisions in *folder*, with their promises.

    Raises:
        RunFailed: They cannot be read, are not one line, or there is none.
    """
    revisions = Revisions(folder=folder)
    if not revisions.identifiers:
        raise RunFailed(f'{folder.versions} has no revision: make new-migration NAME="…"')
    _ = revisions.promises
    return revisions


def faults(revisions: Revisions) -> list[str]:
    """Return what is wrong with *revisions*, each in a line or a few."""
    return [
        *revisions.promises.faults(revisions.identifiers),
        *(
            f"{one.file.name}:{one.line} imports {one.name}, which the function does not have: "
            "it has Python's library, boto3, SQLAlchemy, psycopg2, and what lies beside versions/"
            for one in imports.of(revisions.folder).missing
        ),
        *map(str, lint(revisions.folder)),
    ]


def has_no_way_back(revision: Revision) -> bool:
    """Say whether the downgrade of *revision* does nothing but refuse."""
    body = _downgrade(revision)
    if body is None:
        return False
    statements = body.body[1:] if ast.get_docstring(body) is not None else body.body
    return bool(statements) and all(isinstance(node, ast.Raise) for node in statements)


def leaves(revision: Revision, major: int) -> str | None:
    """
    Return what the downgrade of *revision* leaves on PostgreSQL *major*, by a comment in it.

    ``# test: leaves the value of the enum, which PostgreSQL cannot drop``, or, up to a version,
    ``# test: leaves until 14: public as it is on newer ones``
    """
    body = _downgrade(revision)
    if body is None:
        return None
    with tokenize.open(revision.file) as opened:
        lines = opened.read().splitlines()[body.lineno - 1 : body.end_lineno]
    told = [match for line in lines if (match := _LEFT_BEHIND.search(line))]
    found = [match[2] for match in told if major <= int(match[1] or major)]
    return found[0] if found else None


def _downgrade(revision: Revision) -> ast.FunctionDef | None:
    tree = ast.parse(revision.file.read_bytes())
    functions = (one for one in tree.body if isinstance(one, ast.FunctionDef))
    return next((one for one in functions if one.name == "downgrade"), None)
