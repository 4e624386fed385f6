"""Statements as a report shows them."""

from __future__ import annotations

import re
import textwrap


def first_line(text: str) -> str:
    """Return the first line of *text* that is not a comment, short enough for a report."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("--")]
    return textwrap.shorten(" ".join(lines), 100, placeholder=" …")


def masked(text: str) -> str:
    """Return *text* without its literals: the linter's own report is read by everybody, too."""
    return re.sub(r"'[^']*'?", "'…'", text)
