"""Who has revisions carried out, as the loop knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Supervisor(Protocol):
    """Who has revisions carried out: it sets the session for each, and hears of each commit."""

    def session_settings(self) -> str:
        """Return the SQL that brings the session to where a revision may begin."""
        ...

    def time_left(self) -> float:
        """Return the seconds that are left, which may be infinite."""
        ...

    def may_go_on(self) -> bool:
        """Say whether there is time for one more revision."""
        ...

    def committed(self, revision: str) -> None:
        """Take note that *revision* is committed."""
        ...

    def warned(self, texts: Sequence[str]) -> None:
        """Take note of warnings, of the server's or ours, each naming its revision."""
        ...
