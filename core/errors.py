"""
Everything that can go wrong, grouped by what to do next.

MigrationError
├── Rejected               REJECTED           correct the request or the parameter
│   ├── InvalidField
│   └── UnknownRevision    … or deploy the build that has it
├── AccessDenied           ACCESS_DENIED      correct the secret, the role or the grants
├── NotFound               NOT_FOUND          correct the name, or make the thing
├── BehindCurrent          BEHIND_CURRENT     going back is done by hand
├── DatabaseAhead          DB_AHEAD           deploy the build that has the revision
├── LockBusy               LOCK_BUSY          another run is at work; try again
├── RunFailed              FAILED             correct the build; nothing was touched
│   └── RevisionFailed     FAILED             correct the revision; those before it are kept
├── UntrustedServer        UNTRUSTED_SERVER   correct the certificate, the name or the CA file
├── Incomplete             INCOMPLETE         nothing, or send the same request again
└── NotReady               NOT_READY          wait; the same request will succeed later
    ├── InstanceNotReady                      … by itself, once RDS has made the instance
    └── Unreachable                           … once routes and security groups let us through
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.model import Report


class Outcome(StrEnum):
    """What came of a request; the codes are a contract with outside callers."""

    APPLIED = "APPLIED"
    UP_TO_DATE = "UP_TO_DATE"
    STATUS = "STATUS"
    PLANNED = "PLANNED"
    CHECKED = "CHECKED"
    IGNORED = "IGNORED"
    REQUESTED = "REQUESTED"
    INCOMPLETE = "INCOMPLETE"
    REJECTED = "REJECTED"
    ACCESS_DENIED = "ACCESS_DENIED"
    NOT_FOUND = "NOT_FOUND"
    BEHIND_CURRENT = "BEHIND_CURRENT"
    DB_AHEAD = "DB_AHEAD"
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
    Outcome.BEHIND_CURRENT: 409,
    Outcome.DB_AHEAD: 409,
    Outcome.LOCK_BUSY: 423,
    Outcome.FAILED: 500,
    Outcome.UNTRUSTED_SERVER: 502,
    Outcome.NOT_READY: 503,
}


class MigrationError(Exception):
    """
    A request that was not fulfilled, and why.

    Attributes:
        outcome: The code of the contract.
        report: What was known of the run when it failed, if it had begun.
    """

    outcome: Outcome
    report: Report | None = None


class Rejected(MigrationError):
    """The request or the parameter is wrong."""

    outcome = Outcome.REJECTED


class InvalidField(Rejected):
    """One field of a request, a parameter or a secret is wrong."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}: {remedy}")
        self.field = field


class UnknownRevision(Rejected):
    """The target is no revision of this build."""

    def __init__(self, revision: str, known: tuple[str, ...]) -> None:
        known_text = ", ".join(known[-5:]) or "none"
        super().__init__(
            f"target {revision!r} is no revision of this build (the last ones are {known_text}): "
            "correct the target, or deploy the build that has it"
        )
        self.revision = revision


class AccessDenied(MigrationError):
    """A secret, a password, an IAM permission or a grant is missing."""

    outcome = Outcome.ACCESS_DENIED


class WrongPassword(AccessDenied):
    """The server refused the master's password (SQLSTATE 28P01)."""


class NotFound(MigrationError):
    """No such instance, secret or parameter."""

    outcome = Outcome.NOT_FOUND


class NoSuchInstance(NotFound):
    """RDS knows no instance of this name."""


class BehindCurrent(MigrationError):
    """The target is older than the database."""

    outcome = Outcome.BEHIND_CURRENT

    def __init__(self, target: str | None, current: str | None) -> None:
        super().__init__(
            f"target {target} is behind current {current}: going back is done by hand, with the "
            'direct request in rollback_request (README, "Going back"); nothing was changed'
        )
        self.target = target
        self.current = current


class DatabaseAhead(MigrationError):
    """The database is at a revision that this build does not have."""

    outcome = Outcome.DB_AHEAD


class LockBusy(MigrationError):
    """Another run held the database for longer than we may wait."""

    outcome = Outcome.LOCK_BUSY


class RunFailed(MigrationError):
    """The run could not be carried out; nothing was touched."""

    outcome = Outcome.FAILED


class RevisionFailed(RunFailed):
    """
    One revision failed and was rolled back; earlier ones of the run are kept.

    Attributes:
        revision: The one that failed.
        sqlstate: The server's error code, where the failure was the server's.
    """

    def __init__(self, message: str, *, revision: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.revision = revision
        self.sqlstate = sqlstate


class UntrustedServer(MigrationError):
    """TLS: wrong CA, wrong name, expired, or not offered."""

    outcome = Outcome.UNTRUSTED_SERVER


class Incomplete(MigrationError):
    """The time budget ended between revisions, and the caller wants that raised."""

    outcome = Outcome.INCOMPLETE


class NotReady(MigrationError):
    """The instance or its server cannot be used yet."""

    outcome = Outcome.NOT_READY


class InstanceNotReady(NotReady):
    """RDS is still making the instance, its endpoint or its secret."""


class Unreachable(NotReady):
    """Nothing answers at the server's address."""
