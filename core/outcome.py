"""What came of a request: the codes that outside callers rely on."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What came of a request; the codes are a contract with outside callers."""

    APPLIED = "APPLIED"
    UP_TO_DATE = "UP_TO_DATE"
    STATUS = "STATUS"
    PLANNED = "PLANNED"
    CHECKED = "CHECKED"
    IGNORED = "IGNORED"
    REQUESTED = "REQUESTED"
    BLOCKED = "BLOCKED"
    INCOMPLETE = "INCOMPLETE"
    REJECTED = "REJECTED"
    ACCESS_DENIED = "ACCESS_DENIED"
    NOT_FOUND = "NOT_FOUND"
    BEHIND_CURRENT = "BEHIND_CURRENT"
    DB_AHEAD = "DB_AHEAD"
    MANAGED_BY_ANOTHER = "MANAGED_BY_ANOTHER"
    LOCK_BUSY = "LOCK_BUSY"
    FAILED = "FAILED"
    UNTRUSTED_SERVER = "UNTRUSTED_SERVER"
    NOT_READY = "NOT_READY"

    @property
    def status_code(self) -> int:
        """The ``statusCode`` that goes with this outcome."""
        return _STATUS_CODES.get(self, 200)

    @property
    def success(self) -> bool:
        """Whether the request was fulfilled."""
        return self.status_code == 200

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later with nobody's help."""
        return self in (Outcome.LOCK_BUSY, Outcome.NOT_READY)


_STATUS_CODES = {
    Outcome.INCOMPLETE: 202,
    Outcome.REJECTED: 400,
    Outcome.ACCESS_DENIED: 403,
    Outcome.NOT_FOUND: 404,
    Outcome.BLOCKED: 409,
    Outcome.BEHIND_CURRENT: 409,
    Outcome.DB_AHEAD: 409,
    Outcome.MANAGED_BY_ANOTHER: 409,
    Outcome.LOCK_BUSY: 423,
    Outcome.FAILED: 500,
    Outcome.UNTRUSTED_SERVER: 502,
    Outcome.NOT_READY: 503,
}
