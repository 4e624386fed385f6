"""Reads SQL statement by statement, also inside DO blocks and in what they EXECUTE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pglast
from pglast.parser import ParseError

from core.revisions.sql_files import psql_commands
from infra.lint.statements import Known, Statement, common_names
from infra.lint.text import first_line, masked

_BETWEEN_STATEMENTS = re.compile(r";|\b(?:BEGIN|THEN|ELSE|LOOP)\b", re.IGNORECASE)
_FORMATS = {"%I": "name", "%s": "name", "%L": "'text'", "%%": "%"}


class Reader:
    """
    Reads statements in their order.

    Attributes:
        known: What they have made and set so far, and what was found in them.
        is_ours: A helper of ``core.operations`` wrote the statement, and no author.
    """

    def __init__(self, *, has_note: bool, masters: set[tuple[str | None, str]]) -> None:
        self.known = Known(has_note=has_note, masters=masters)
        self.is_ours = False

    def read(self, text: str) -> None:
        """Read the statements in *text*, and what is inside their DO blocks."""
        try:
            parsed = pglast.parse_sql(text)
        except ParseError as error:
            self._pieces(text, error)
            return
        for raw in parsed:
            start = raw.stmt_location or 0
            end = start + raw.stmt_len if raw.stmt_len else None
            encoded = text.encode()[start:end].decode()
            self._statement(raw.stmt, encoded)

    def _pieces(self, text: str, error: ParseError) -> None:
        """Read of *text*, which the parser refuses as a whole, what can be read."""
        for start, end, command in psql_commands(text):
            self._tell_unread(f"\\{command}", "works in psql only: see operations.sql_file")
            text = text[:start] + " " * (end - start) + text[end:]
        try:
            pieces = pglast.split(text, with_parser=False)
        except ParseError:
            pieces = (text,)
        for piece in pieces:
            if piece.strip() == text.strip():
                self._tell_unread(piece, str(error.args[0]))
            else:
                self.read(piece)

    def _tell_unread(self, text: str, reason: str) -> None:
        self.known.found.append(("unreadable", f"{masked(first_line(text))} ({masked(reason)})"))

    def _statement(self, tree: Any, text: str) -> None:
        if type(tree).__name__ == "DoStmt":
            self.block(next(one.arg.sval for one in tree.args if one.defname == "as"))
            return
        shown = first_line(text)
        visitor = Statement(self.known, shown, common=common_names(tree), read_block=self.block)
        visitor(tree)

    def block(self, body: str) -> None:
        """Read the statements of a PL/pgSQL block, and the texts that it executes."""
        wrapped = f"CREATE FUNCTION block() RETURNS void LANGUAGE plpgsql AS $lint${body}$lint$"
        try:
            inside = list(_inside(pglast.parse_plpgsql(wrapped)))
        except (ParseError, ValueError) as error:
            self._tell_unread(f"DO {body}", str(error.args[0]))
            self._block_by_words(body)
            return
        known = self.known
        before = known.has_path, known.in_block
        if not known.in_block:
            known.has_path_outside = known.has_path
        known.has_path, known.in_block = known.has_path or "search_path" in body, True
        for kind, text in inside:
            if kind == "PLpgSQL_stmt_execsql":
                self.read(text)
            else:
                self._executed(text)
        known.has_path, known.in_block = before

    def _block_by_words(self, body: str) -> None:
        """Read what is a statement by itself, of a block that the parser refuses."""
        for piece in _BETWEEN_STATEMENTS.split(body):
            try:
                parsed = pglast.parse_sql(piece)
            except ParseError:
                continue
            for raw in parsed:
                self._statement(raw.stmt, piece)

    def _executed(self, expression: str) -> None:
        """Read what EXECUTE is given: one literal, which ``format`` may complete."""
        try:
            select: Any = pglast.parse_sql(f"SELECT {expression}")[0].stmt
            value = select.targetList[0].val
            if type(value).__name__ == "FuncCall" and value.funcname[-1].sval == "format":
                value = value.args[0]
            text = value.val.sval
            pglast.parse_sql(text := re.sub(r"%[IsL%]", lambda found: _FORMATS[found[0]], text))
        except (AttributeError, ParseError):
            if self.is_ours:
                return
            self.known.found.append(("unreadable", f"EXECUTE {masked(first_line(expression))}"))
        else:
            self.read(text)


def _inside(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of every statement in the JSON of a PL/pgSQL block."""
    if isinstance(tree, list):
        for part in tree:
            yield from _inside(part)
    elif isinstance(tree, dict):
        for kind, part in tree.items():
            if kind == "PLpgSQL_stmt_execsql":
                yield kind, part["sqlstmt"]["PLpgSQL_expr"]["query"]
            elif kind in ("PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors"):
                yield kind, part["query"]["PLpgSQL_expr"]["query"]
            yield from _inside(part)
