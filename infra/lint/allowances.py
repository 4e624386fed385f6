"""What a comment in a revision allows."""

from __future__ import annotations

import ast
import io
import re
import tokenize

_ALLOWANCE = re.compile(r"#\s*lint:\s*allow\s+([a-z-]+)\s*:\s*(\S.*)")


def allowances(source: str, direction: str) -> set[str]:
    """Return the rules that comments in the function *direction* of *source* allow."""
    spans = [(node.lineno, node.end_lineno or node.lineno) for node in functions(source, direction)]
    return {
        found[1]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and (found := _ALLOWANCE.match(token.string))
        for first, last in spans
        if first <= token.start[0] <= last
    }


def functions(source: str, name: str) -> list[ast.FunctionDef]:
    """Return the functions of *source* that are called *name*."""
    body = ast.parse(source).body
    return [one for one in body if isinstance(one, ast.FunctionDef) and one.name == name]
