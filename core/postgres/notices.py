"""
What the server says beside its answers: heard while a statement runs, bounded, and written down.

psycopg2 keeps every notice of a statement until the statement has ended, and without its
SQLSTATE. So libpq itself hands them to us here, one by one (PostgreSQL documentation, libpq,
"Notice Processing"); COPY and large objects work as ever.
"""

from __future__ import annotations

import ctypes
import logging
from typing import NamedTuple

from psycopg2 import _psycopg

from core.model import cut, in_a_line
from core.postgres.masking import masked
from core.postgres.session import Session

logger = logging.getLogger(__name__)

# As many as somebody reads; the rest is counted.
MOST_NOTICES = 200
MOST_WARNINGS = 50
_CHARACTERS = 1000

# PostgreSQL documentation, "Error and Notice Message Fields". Severity in English, whatever
# language the server speaks.
_SEVERITY = ord("V")
_FIELDS = (ord("C"), ord("M"), ord("D"), ord("H"))
_WARNING = "WARNING"

_RECEIVER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class Notice(NamedTuple):
    """
    Something that the server says beside an answer.

    Attributes:
        severity: ``WARNING``, ``NOTICE``, ``INFO``, ``LOG`` or ``DEBUG``.
    """

    severity: str
    sqlstate: str
    message: str
    detail: str
    hint: str

    def __str__(self) -> str:
        """Return it in a line, without its detail, which may show what is in a row."""
        hint = f" ({self.hint})" if self.hint else ""
        text = masked(" ".join(f"{self.message}{hint}".split()))
        return cut(in_a_line(text), _CHARACTERS)


class Notices:
    """
    What the server says while one revision is carried out.

    Args:
        revision: Whose it is; it stands before each line.

    Attributes:
        warnings: What it warned of, as many as somebody reads.
        left_out: How many notices and warnings more there were.
    """

    def __init__(self, revision: str) -> None:
        self._revision = revision
        self._logged = 0
        self.warnings: list[str] = []
        self.left_out = 0

    def wants(self, severity: str) -> bool:
        """Say whether to hear one more of that *severity*; else it is counted."""
        room = (
            len(self.warnings) < MOST_WARNINGS
            if severity == _WARNING
            else self._logged < MOST_NOTICES
        )
        if room:
            return True
        self.left_out += 1
        return False

    def hear(self, notice: Notice) -> None:
        """Take note of *notice*, and log it."""
        self._logged += 1
        detail = cut(masked(notice.detail), _CHARACTERS)
        logger.log(
            logging.WARNING if notice.severity == _WARNING else logging.INFO,
            "%s: the server says: %s",
            self._revision,
            notice,
            extra={"sqlstate": notice.sqlstate} | ({"detail": detail} if detail else {}),
        )
        if notice.severity == _WARNING:
            self.warnings.append(f"{self._revision}: {notice}")

    def end(self) -> None:
        """Say how much was left out."""
        if self.left_out:
            text = f"{self.left_out:,} more notices of the server are left out"
            logger.warning("%s: %s", self._revision, text)
            self.warnings.append(f"{self._revision}: {text}")


def listen(session: Session) -> None:
    """Have what the server says to *session* told to its ``notices``, for as long as it lasts."""
    library = _library()

    def receive(_argument: int | None, result: int | None) -> None:
        notices = session.notices_of
        severity = _text(library.PQresultErrorField(result, _SEVERITY))
        if notices is None or not notices.wants(severity):
            return
        fields = (library.PQresultErrorField(result, one) for one in _FIELDS)
        notices.hear(Notice(severity, *map(_text, fields)))

    # libpq must never call what Python has forgotten.
    session.receiver = _RECEIVER(receive)
    library.PQsetNoticeReceiver(session.pgconn_ptr, session.receiver, None)


def _text(field: bytes | None) -> str:
    return (field or b"").decode("utf-8", "replace")


def _library() -> ctypes.CDLL:
    """Return the libpq that psycopg2 uses."""
    library = ctypes.CDLL(_psycopg.__file__)
    library.PQsetNoticeReceiver.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.PQsetNoticeReceiver.restype = ctypes.c_void_p
    library.PQresultErrorField.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.PQresultErrorField.restype = ctypes.c_char_p
    return library
