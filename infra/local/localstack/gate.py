"""
The gate in front of LocalStack: only who has keys gets in.

LocalStack itself believes whoever reaches its port, and on a shared machine that is anybody.  Here
each request needs a Signature Version 4 that its keys make: this checkout's own, those of a role
session (a function's), or, inside LocalStack's own process, a secret that no other process knows.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import datetime as dt
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from localstack import constants
from localstack.utils.patch import patch

from infra.local.state import State

# The one thing that is told to anybody: whether LocalStack is up.
OPEN = ("GET", "/_localstack/health")

ALGORITHM = "AWS4-HMAC-SHA256"
# How far apart the clocks may be, as on AWS.
SKEW = dt.timedelta(minutes=15)
# A streamed upload declares one of these instead of a digest.
NOT_A_DIGEST = re.compile(r"UNSIGNED-PAYLOAD|STREAMING-[A-Z0-9-]+")

INVALID_KEY = "InvalidClientTokenId", "The security token included in the request is invalid."
INCOMPLETE = "IncompleteSignature", "The request's signature lacks a part, or has one too many."
EXPIRED = "RequestExpired", "The request's signature is not of this time."
UNSIGNED = (
    "MissingAuthenticationToken",
    "The request is not signed. The keys of this local AWS: make -s env",
)
MISMATCH = (
    "SignatureDoesNotMatch",
    "The signature is of another request, time or key. The keys of this local AWS: make -s env",
)


class Refused(Exception):
    """A request does not get in; holds AWS's code and message."""

    def __init__(self, code_and_message: tuple[str, str]) -> None:
        super().__init__(*code_and_message)
        self.code, self.message = code_and_message


class _Given(SigV4Auth):
    """Signs just the headers that a request says are signed."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        """Return them; whoever made the request has chosen."""
        return request.headers


class _GivenToS3(_Given, S3SigV4Auth):
    """S3's paths are signed as they are."""


def close() -> None:
    """Put the gate before all else that LocalStack does with a request."""
    # Imported by other modules of LocalStack by value: this comes before any of them.
    constants.INTERNAL_AWS_SECRET_ACCESS_KEY = secrets.token_urlsafe(32)
    own = State(Path(os.environ["DAY2_LOCAL_STATE"])).keys()
    secrets_of = _secrets({own.access_key_id: own.secret_access_key})

    from localstack.aws.app import LocalstackAwsGateway

    @patch(LocalstackAwsGateway.__init__)
    def _with_gate(fn: Callable[..., None], gateway: Any, *args: Any, **kwargs: Any) -> None:
        fn(gateway, *args, **kwargs)
        gateway.request_handlers.insert(0, _handler(secrets_of))


def check(
    request: Any, secrets_of: Callable[[str, str | None], list[str]], *, now: dt.datetime
) -> None:
    """
    Let *request* (werkzeug's) pass if its signature is right, by any of the secrets of its key.

    Raises:
        Refused: It is not.
    """
    path, _, query = str(request.environ["RAW_URI"]).partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    header = request.headers.get("Authorization", "")
    is_in_query = not header and "X-Amz-Signature" in parameters
    if header:
        algorithm, _, rest = header.partition(" ")
        parts = dict(re.findall(r"(\w+)=([^,\s]+)", rest))
        parts |= {"Algorithm": algorithm, "Date": request.headers.get("X-Amz-Date", "")}
    elif is_in_query:
        parts = {name.removeprefix("X-Amz-"): value for name, value in parameters.items()}
        query = "&".join(one for one in query.split("&") if not one.startswith("X-Amz-Signature="))
    else:
        raise Refused(UNSIGNED)
    try:
        key, day, region, service, end = parts["Credential"].rsplit("/", 4)
        names, signature, date = (
            parts["SignedHeaders"].split(";"),
            parts["Signature"],
            parts["Date"],
        )
        then = dt.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        seconds = int(parts["Expires"]) if is_in_query else 0
    except (KeyError, ValueError):
        raise Refused(INCOMPLETE) from None
    if (parts["Algorithm"], end, day) != (ALGORITHM, "aws4_request", date[:8]) or (
        "host" not in names
    ):
        raise Refused(INCOMPLETE)
    if not then - SKEW <= now <= then + max(SKEW, dt.timedelta(seconds=seconds)):
        raise Refused(EXPIRED)
    body = _body(request)
    declared = request.headers.get("X-Amz-Content-SHA256", "")
    if is_in_query and service == "s3":
        declared = declared or "UNSIGNED-PAYLOAD"
    elif not NOT_A_DIGEST.fullmatch(declared):
        declared = hashlib.sha256(body).hexdigest()
    token = request.headers.get("X-Amz-Security-Token") or parts.get("Security-Token")
    kind = _GivenToS3 if service.startswith("s3") else _Given
    again = AWSRequest(
        method=request.method,
        url=f"http://{request.host}{path}{'?' if query else ''}{query}",
        headers={name: request.headers.get(name, "") for name in names},
        data=body,
    )
    again.context["timestamp"] = date
    for secret in secrets_of(key, token):
        signer = kind(Credentials(key, secret), service, region)
        canonical = signer.canonical_request(again).rpartition("\n")[0] + f"\n{declared}"
        expected = signer.signature(signer.string_to_sign(again, canonical), again)
        if hmac.compare_digest(expected.encode(), signature.encode()):
            return
    raise Refused(MISMATCH)


def _secrets(own: Mapping[str, str]) -> Callable[[str, str | None], list[str]]:
    """Return what finds the secrets of an access key; *own* are those of our own."""

    def secrets_of(key: str, token: str | None) -> list[str]:
        # LocalStack's own clients sign with the secret of its process: for an account's id, and for
        # whoever asked, as iam:GetUser does.
        internal = str(constants.INTERNAL_AWS_SECRET_ACCESS_KEY)
        if key in own:
            return [own[key], internal]
        if re.fullmatch(r"\d{12}|__internal_call__", key):
            return [internal]
        # A second to import, and only functions need it.
        from moto.sts.models import sts_backends

        for account in list(sts_backends.values()):
            for backend in list(account.values()):
                session = backend.get_assumed_role_from_access_key(key)
                if session and hmac.compare_digest(session.session_token, token or ""):
                    return [str(session.secret_access_key), internal]
        raise Refused(INVALID_KEY)

    return secrets_of


def _handler(secrets_of: Callable[[str, str | None], list[str]]) -> Callable[..., None]:
    from localstack.aws import handlers
    from localstack.aws.api import CommonServiceException

    def gate(chain: Any, context: Any, response: Any) -> None:
        request = context.request
        if (request.method, request.environ["RAW_URI"]) == OPEN:
            return
        try:
            check(request, secrets_of, now=dt.datetime.now(dt.UTC))
        except Refused as refused:
            # So that the answer is in the service's own format, where the request tells which.
            handlers.parse_service_name(chain, context, response)
            if context.service is None:
                response.set_json({"__type": refused.code, "message": refused.message})
                response.status_code = 403
                chain.stop()
                return
            # The serializer wants one; errors of all of them look alike.
            context.operation = context.service.operation_model(context.service.operation_names[0])
            raise CommonServiceException(refused.code, refused.message, 403, True) from None

    return gate


def _body(request: Any) -> bytes:
    """Return the whole body, and leave it to be read again by who comes after us."""
    body: bytes = request.get_data(cache=True, parse_form_data=False)
    request.stream = io.BytesIO(body)
    return body
