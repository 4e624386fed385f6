"""What it means that AWS refuses a call: told by its code and status, never by its words."""

from __future__ import annotations

from http import HTTPStatus

from core.errors import AccessDenied, MigrationError, NotReady, Rejected, RunFailed

# What passes by itself: too many calls for now, ours or a service's own of KMS, and faults of AWS.
# Botocore's own list of throttles ("Retries", standard mode) is in it, but for
# LimitExceededException: of Secrets Manager that is a quota, which no waiting raises.
_BUSY = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "InternalError",
        "InternalException",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TooManyUpdates",
        "TransactionInProgressException",
    }
)
# The last three are Secrets Manager's, of a key that is disabled or not ours to use, and SNS's.
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "DecryptionFailure",
        "EncryptionFailure",
        "AuthorizationError",
    }
)
_NOT_TAKEN = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)
# SNS and SQS have words of their own.
_MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "DBInstanceNotFound",
        "NotFound",
        "ParameterNotFound",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
_NOT_VALID = frozenset(
    {
        "InvalidParameter",
        "InvalidParameterException",
        "InvalidParameterValue",
        "ParameterValueInvalid",
        "ValidationException",
    }
)


def is_busy(code: str) -> bool:
    """Say whether what was refused with *code* may be taken in a moment."""
    return code in _BUSY


def meaning_of(
    code: str,
    text: str,
    status: int,
    *,
    action: str,
    thing: str,
    missing: type[MigrationError] = RunFailed,
) -> MigrationError:
    """
    Return the error that it is that AWS refused *action* for *thing*.

    *code* and *text* are AWS's, *status* is HTTP's. *missing* is what it means that there is no
    such thing.
    """
    if (
        is_busy(code)
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status == HTTPStatus.TOO_MANY_REQUESTS
    ):
        return NotReady(f"{action} is busy ({code}): try again later")
    if code in _DENIED or code.upper().startswith("KMS"):
        return AccessDenied(
            f"{action} is denied for {thing}: check its name, or allow it to the "
            f"function's role, and kms:Decrypt where a customer key is used ({text or code})"
        )
    if code in _NOT_TAKEN:
        return AccessDenied(
            f"{action}: AWS does not take the credentials ({code}): check the function's role"
        )
    if code in _MISSING or code.endswith("NotFoundFault"):
        absent = "does not exist"
        if action == "secretsmanager:GetSecretValue":
            # The same code for both, and the text is not a contract.
            absent += ", or has no value yet"
        return missing(f"{thing} {absent} ({action}): check its name")
    if code == "InvalidRequestException" and thing.startswith("secret "):
        return Rejected(
            f"{thing} cannot be used ({text}): restore it if it is scheduled for deletion"
        )
    if code in _NOT_VALID:
        return Rejected(f"{thing} is not a valid name for {action} ({code})")
    return RunFailed(f"{action} for {thing} failed: {code}")
