"""What AWS refuses and botocore cannot do, translated."""

from __future__ import annotations

import re

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from core.aws.account import Aws
from core.aws.failures import calling
from core.errors import (
    AccessDenied,
    MigrationError,
    NoSuchInstance,
    NotFound,
    NotReady,
    OutOfReach,
    Rejected,
    RunFailed,
)
from tests.conftest import ROOT
from tests.unit.aws.answers import DB_INSTANCE, Stub

CALL = "secretsmanager:GetSecretValue"
NAME = "secret orders-master"
DENIED = (
    f"{CALL} is denied for {NAME}: check its name, or allow it to the function's role, "
    "and kms:Decrypt where a customer key is used (because)"
)
DELETED = f"{NAME} cannot be used (because): restore it if it is scheduled for deletion"
MISSING = f"{NAME} does not exist, or has no value yet ({CALL}): check its name"
CODES = [
    ("AccessDeniedException", AccessDenied, DENIED),
    ("AccessDenied", AccessDenied, DENIED),
    ("ResourceNotFoundException", NotFound, MISSING),
    ("ThrottlingException", NotReady, f"{CALL} is busy (ThrottlingException): try again later"),
    ("InternalServiceError", NotReady, f"{CALL} is busy (InternalServiceError): try again later"),
    ("InvalidRequestException", Rejected, DELETED),
    (
        "ValidationException",
        Rejected,
        f"{NAME} is not a valid name for {CALL} (ValidationException)",
    ),
    ("SomethingNew", RunFailed, f"{CALL} for {NAME} failed: SomethingNew"),
]


@pytest.mark.parametrize(("code", "kind", "message"), CODES)
def test_what_aws_refuses_is_translated(
    code: str, kind: type[MigrationError], message: str, aws: Aws, stub: Stub
) -> None:
    """The error says which call on which thing, and what would help."""
    stub("secretsmanager").add_client_error("get_secret_value", code, "because", 400)

    with pytest.raises(kind) as caught:
        aws.secret("orders-master")

    assert (type(caught.value), str(caught.value)) == (kind, message)


# Each error that AWS's own description of a call of ours names, by what it means to a run.
KNOWN: dict[type[MigrationError], str] = {
    NotReady: """InternalError InternalException InternalServerError InternalServiceError
        KMSThrottling KmsThrottled RequestThrottled TooManyUpdates""",
    AccessDenied: """AuthorizationError DecryptionFailure EncryptionFailure KMSAccessDenied
        KMSDisabled KMSInvalidState KMSNotFound KMSOptInRequired KmsAccessDenied KmsDisabled
        KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired""",
    NotFound: """BlueGreenDeploymentNotFoundFault DBClusterNotFoundFault DBInstanceNotFound
        DBSubnetGroupNotFoundFault GlobalClusterNotFoundFault NotFound QueueDoesNotExist
        ResourceNotFoundException""",
    Rejected: """InvalidParameter InvalidParameterException InvalidRequestException
        ParameterValueInvalid ValidationException""",
    # A limit of the account, an endpoint of a phone, or a mistake of ours.
    RunFailed: """EndpointDisabled HierarchyLevelLimitExceededException
        HierarchyTypeMismatchException IncompatiblePolicyException InvalidAddress
        InvalidAllowedPatternException InvalidFilterKey
        InvalidFilterOption InvalidFilterValue InvalidKeyId InvalidMessageContents InvalidNextToken
        InvalidNextTokenException InvalidPolicyAttributeException InvalidPolicyTypeException
        InvalidSecurity LimitExceededException MalformedPolicyDocumentException
        ParameterAlreadyExists ParameterLimitExceeded ParameterMaxVersionLimitExceeded
        ParameterPatternMismatchException PlatformApplicationDisabled PoliciesLimitExceededException
        PreconditionNotMetException ResourceExistsException UnsupportedOperation
        UnsupportedParameterType""",
}


def meant_by(code: str, status: int = 400) -> type[MigrationError]:
    """Return what it means that a call on a secret is refused with *code*."""
    refused = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Any",
    )
    with pytest.raises(MigrationError) as caught, calling("x:Any", "secret orders", NotFound):
        raise refused
    return type(caught.value)


def test_each_error_that_aws_describes_is_known(shared: Aws) -> None:
    """Whoever adds a call, or takes a newer botocore, sees what else it may be refused with."""
    described = {
        shape.metadata.get("error", {}).get("code", shape.name)
        for service, operation in asked_for()
        for shape in shared._client(service)
        .meta.service_model.operation_model(
            shared._client(service).meta.method_to_api_mapping[operation]
        )
        .error_shapes
    }

    expected = {code: kind for kind, codes in KNOWN.items() for code in codes.split()}
    assert {code: meant_by(code) for code in described} == expected


def test_all_that_botocore_would_ask_again_is_asked_again() -> None:
    """We do that in its place, for as long as a run has time; a quota of secrets is no throttle."""
    codes = {
        *ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
        *TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    } - {"LimitExceededException"}
    statuses = (429, *TransientRetryableChecker._TRANSIENT_STATUS_CODES)

    assert {meant_by(code) for code in codes} == {NotReady}
    assert {meant_by("Unheard", status) for status in statuses} == {NotReady}
    assert {meant_by(code) for code in ("ExpiredToken", "InvalidClientTokenId")} == {AccessDenied}


def asked_for() -> set[tuple[str, str]]:
    """Return service and method of each call that is made in ``core/aws/``."""
    asking = "".join(path.read_text() for path in (ROOT / "core" / "aws").glob("*.py"))
    made = re.findall(r'self\._client\("(\w+)"\)\.(\w+)\(', asking)
    # It is signed here, and nothing is sent.
    return set(made) - {("rds", "generate_db_auth_token")}


@pytest.mark.parametrize("code", ["DBInstanceNotFound", "DBInstanceNotFoundFault"])
def test_an_unknown_instance_is_its_own_error(code: str, aws: Aws, stub: Stub) -> None:
    """An event for it is left alone; a direct request is told."""
    stub("rds").add_client_error("describe_db_instances", code, "because", 404)

    with pytest.raises(NoSuchInstance) as caught:
        aws.instance("orders")

    assert str(caught.value) == (
        "instance orders does not exist (rds:DescribeDBInstances): check its name"
    )


def test_a_denial_in_the_middle_of_pages_is_translated(aws: Aws, stub: Stub) -> None:
    """A generator's later pages fail as its first does."""
    stub("rds").add_response(
        "describe_db_instances", {"DBInstances": [DB_INSTANCE], "Marker": "next"}
    )
    stub("rds").add_client_error("describe_db_instances", "AccessDenied", "because", 403)
    found = aws.instances()
    next(found)

    with pytest.raises(AccessDenied):
        next(found)


def test_a_name_that_botocore_itself_refuses_is_rejected(aws: Aws) -> None:
    """A malformed name is the caller's mistake, found before AWS is asked."""
    with pytest.raises(Rejected) as caught:
        aws.secret("")

    assert str(caught.value) == "secret  is not a valid name for secretsmanager:GetSecretValue"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            EndpointConnectionError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            OutOfReach,
            "rds:X cannot be reached: in a VPC without NAT, add the interface endpoint",
        ),
        (
            ConnectTimeoutError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            OutOfReach,
            "rds:X cannot be reached: in a VPC without NAT, add the interface endpoint",
        ),
        (
            SSLError(endpoint_url="https://vpce-1.rds.example", error="said OpenSSL"),
            OutOfReach,
            "rds:X: TLS with https://vpce-1.rds.example failed: check its name and its certificate",
        ),
        (
            ConnectionClosedError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            NotReady,
            "rds:X did not answer (ConnectionClosedError): try again",
        ),
        (
            ReadTimeoutError(endpoint_url="https://rds.us-east-1.amazonaws.com"),
            NotReady,
            "rds:X did not answer (ReadTimeoutError): try again",
        ),
        (
            ResponseParserError("half of an answer"),
            NotReady,
            "rds:X did not answer (ResponseParserError): try again",
        ),
        (NoCredentialsError(), AccessDenied, "rds:X: there are no AWS credentials"),
        (NoRegionError(), RunFailed, "rds:X for orders failed: NoRegionError"),
    ],
)
def test_what_botocore_cannot_do_is_translated(
    error: BotoCoreError | ResponseParserError, kind: type[MigrationError], message: str
) -> None:
    """No network, no credentials, no region: each says what to set up."""
    with pytest.raises(kind) as caught, calling("rds:X", "orders"):
        raise error

    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert caught.value.__cause__ is error
