"""
Everything that can go wrong, grouped by what to do next.

MigrationError
├── Rejected               REJECTED           correct the request or the parameter
│   ├── InvalidField
│   └── UnknownRevision    … or deploy the build that has it
├── AccessDenied           ACCESS_DENIED      correct the secret, the role or the grants
│   └── WrongPassword      … which a rotation may just have changed
├── NotFound               NOT_FOUND          correct the name, or make the thing
│   ├── NoSuchInstance
│   └── NoValue            … or give the secret a value
├── BehindCurrent          BEHIND_CURRENT     going back is done by hand
├── DatabaseAhead          DB_AHEAD           deploy the build that has the revision
├── ManagedByAnother       MANAGED_BY_ANOTHER hand the database over first
├── LockBusy               LOCK_BUSY          another run is at work; try again
├── RunFailed              FAILED             correct the build; nothing was touched
│   └── RevisionFailed     FAILED             correct the revision; those before it are kept
├── UntrustedServer        UNTRUSTED_SERVER   correct the certificate, the name or the CA file
├── Incomplete             INCOMPLETE         nothing, or send the same request again
└── NotReady               NOT_READY          wait; the same request will succeed later
    ├── InstanceNotReady                      … by itself, once RDS has made the instance
    ├── AwaitsPerson                          … once somebody does what the message says
    ├── NotWriter                             … by itself, once the endpoint names the new writer
    ├── Unreachable                           … once routes and security groups let us through
    └── OutOfReach                            … once a NAT gateway or an endpoint leads to AWS

LeftAlone stands outside the tree: a database that we were not asked to touch has not failed.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.model import Report, cut, in_a_line
from core.outcome import Outcome

# As much of a message as somebody reads.
MESSAGE_CHARACTERS = 4000


class MigrationError(Exception):
    """
    A request that was not fulfilled, and why.

    Attributes:
        outcome: The code of the contract.
        report: What was known of the run when it failed, if it had begun.
    """

    outcome: Outcome
    report: Report | None = None

    def __init__(self, message: str) -> None:
        # Lambda puts it whole into the record of a failed event, which has 256 KB in all.
        super().__init__(cut(in_a_line(message), MESSAGE_CHARACTERS))


class Rejected(MigrationError):
    """The request or the parameter is wrong."""

    outcome = Outcome.REJECTED


class InvalidField(Rejected):
    """One field of a request, a parameter or a secret is wrong."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}: {remedy}")
        self.field = field


class UnknownRevision(Rejected):
    """The target is not a revision of this build."""

    def __init__(self, revision: str, known: tuple[str, ...]) -> None:
        known_text = ", ".join(known[-5:]) or "none"
        super().__init__(
            f"target {revision!r} is not a revision of this build "
            f"(the last ones are {known_text}): correct the target, or deploy the build that has it"
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


class NoValue(NotFound):
    """
    The secret is there, and has no current value.

    Attributes:
        tags: Those of the secret.
    """

    def __init__(self, message: str, tags: Mapping[str, str]) -> None:
        super().__init__(message)
        self.tags = dict(tags)


class BehindCurrent(MigrationError):
    """The target is older than the database."""

    outcome = Outcome.BEHIND_CURRENT

    def __init__(self, target: str | None, current: str | None) -> None:
        super().__init__(
            f"target {target} is behind current {current}: going back is done by hand, with the "
            'direct request in rollback_request (OPERATIONS.md, "Going back"); nothing was changed'
        )
        self.target = target
        self.current = current


class DatabaseAhead(MigrationError):
    """The database is at a revision that this build does not have."""

    outcome = Outcome.DB_AHEAD


class ManagedByAnother(MigrationError):
    """Another stack keeps the database."""

    outcome = Outcome.MANAGED_BY_ANOTHER

    def __init__(self, name: str, keeper: str, current: str | None) -> None:
        super().__init__(
            f"{name} is kept by the stack {keeper}, and this one would replace its passwords: "
            "leave it to that stack, or hand it over with a direct request: action adopt, "
            f"from_revision and target_revision {current or 'base'}; nothing was changed"
        )
        self.keeper = keeper


class LockBusy(MigrationError):
    """Another run held the database for longer than we may wait."""

    outcome = Outcome.LOCK_BUSY


class RunFailed(MigrationError):
    """The run could not be carried out; nothing was touched."""

    outcome = Outcome.FAILED


class RevisionFailed(RunFailed):
    """
    One revision failed; its open transaction was rolled back, and earlier revisions are kept.

    Attributes:
        revision: The one that failed.
        sqlstate: The server's error code, where the failure was the server's.
        has_committed: It may have committed something itself, so that it is not simply run again.
        is_late: The time of the run was over.
        at: The file and line of the revision that it failed at.
    """

    def __init__(
        self,
        message: str,
        *,
        revision: str,
        sqlstate: str | None = None,
        has_committed: bool = False,
        is_late: bool = False,
        at: str | None = None,
    ) -> None:
        super().__init__(message)
        self.revision = revision
        self.sqlstate = sqlstate
        self.has_committed = has_committed
        self.is_late = is_late
        self.at = at


class UntrustedServer(MigrationError):
    """TLS: wrong CA, wrong name, expired, or not offered."""

    outcome = Outcome.UNTRUSTED_SERVER


class Incomplete(MigrationError):
    """The time budget ended between revisions, and the caller wants that raised."""

    outcome = Outcome.INCOMPLETE


class NotReady(MigrationError):
    """The instance or its server cannot be used yet."""

    outcome = Outcome.NOT_READY


class AwaitsPerson(NotReady):
    """Somebody has to do something first: asking again at once would only take time."""


class InstanceNotReady(NotReady):
    """RDS is still making the instance, its endpoint or its secret."""


class NotWriter(NotReady):
    """The server takes no writes: after a failover, another one does."""


class Unreachable(NotReady):
    """Nothing answers at the server's address."""


class OutOfReach(NotReady):
    """Nothing answers where a service of AWS should."""


class LeftAlone(Exception):
    """
    There is nothing for us to do here: not a failure, and not a ``MigrationError``.

    Attributes:
        reason: A code of the contract.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
