"""Whoever else is on this machine: no way in without the keys, and nothing to read."""

from __future__ import annotations

import datetime as dt
import http.client
import os
import subprocess
from collections.abc import Callable

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from infra.local import processes
from infra.local.local_aws import LocalAws
from infra.local.state import Keys
from tests.equipment.local_aws import LocalFunction

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# One of each way to say an error: query, JSON, REST with JSON, REST with XML, CBOR.
CALLS = {
    "sts": "get_caller_identity",
    "secretsmanager": "list_secrets",
    "lambda": "list_functions",
    "s3": "list_buckets",
    "cloudwatch": "list_metrics",
}


def answer(
    aws: LocalAws, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Return status and body of one request, sent as it is."""
    connection = http.client.HTTPConnection(aws.endpoint_url.removeprefix("http://"), timeout=90)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def signed(aws: LocalAws, *, keys: Keys | None = None) -> dict[str, str]:
    """Return the headers of a request to STS."""
    keys = keys or aws.state.keys()
    request = AWSRequest("POST", f"{aws.endpoint_url}/", headers=FORM, data=BODY)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key)
    SigV4Auth(credentials, "sts", "us-east-1").add_auth(request)
    return dict(request.headers)


@pytest.mark.parametrize("service", CALLS)
@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("test", "InvalidClientTokenId"),
        (Keys.new().access_key_id, "InvalidClientTokenId"),
        # LocalStack's own clients, and what it took for the number of an account.
        ("__internal_call__", "SignatureDoesNotMatch"),
        ("000000000000", "SignatureDoesNotMatch"),
        (None, "SignatureDoesNotMatch"),
    ],
    ids=["usual", "another checkout's", "internal", "account", "own key, wrong secret"],
)
def test_other_keys_are_refused_as_aws_does(
    local_aws: LocalAws, service: str, key: str | None, code: str
) -> None:
    """With its code, in the format of each service."""
    key = key or local_aws.state.keys().access_key_id
    client = boto3.client(
        service,
        endpoint_url=local_aws.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=key,
        config=Config(retries={"total_max_attempts": 1}),
    )

    with pytest.raises(ClientError) as refused:
        getattr(client, CALLS[service])()

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert refused.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/2015-03-31/functions/"),
        ("OPTIONS", "/2015-03-31/functions/"),
        ("GET", "/day2-artifacts"),
        ("GET", "/000000000000/queue?Action=ReceiveMessage"),
        ("GET", "/_aws/sqs/messages?QueueUrl=x"),
        ("GET", "/_localstack/info"),
        ("GET", "/_localstack/plugins"),
        ("POST", "/_localstack/state/reset"),
        # It stops or restarts all.
        ("POST", "/_localstack/health"),
        ("GET", "/_localstack/health/../info"),
        ("GET", "//_localstack/info"),
    ],
)
def test_nothing_is_open_but_whether_it_is_up(local_aws: LocalAws, method: str, path: str) -> None:
    """Neither AWS's operations nor LocalStack's own pages."""
    status, body = answer(local_aws, method, path, '{"action": "restart"}' * (method == "POST"))

    assert status == 403
    assert "MissingAuthenticationToken" in body
    assert answer(local_aws, "GET", "/_localstack/health")[0] == 200


def another_time_of_the_day() -> dt.datetime:
    """Return one that is past what AWS allows for, on the day that a signature is for."""
    now = dt.datetime.now(dt.UTC)
    before, after = (now + dt.timedelta(minutes=minutes) for minutes in (-16, 16))
    return before if before.date() == now.date() else after


def test_a_signature_is_for_one_request_and_one_time(local_aws: LocalAws) -> None:
    """The right one passes; with anything changed it does not."""
    headers = signed(local_aws)
    assert answer(local_aws, "POST", "/", BODY, headers)[0] == 200

    changed = BODY.replace("GetCallerIdentity", "GetSessionToken")
    another_time = headers | {"X-Amz-Date": another_time_of_the_day().strftime("%Y%m%dT%H%M%SZ")}
    weak = headers | {"Authorization": f"AWS {local_aws.state.keys().access_key_id}:x"}
    without_host = {**headers, "Authorization": headers["Authorization"].replace("host;", "")}
    refused = {
        code: answer(local_aws, method, path, body, given)
        for code, method, path, body, given in (
            ("body", "POST", "/", changed, headers),
            ("method", "PUT", "/", BODY, headers),
            ("path", "POST", "/other", BODY, headers),
            ("query", "POST", "/?x=1", BODY, headers),
            ("time", "POST", "/", BODY, another_time),
            ("version 2", "POST", "/", BODY, weak),
            ("host", "POST", "/", BODY, without_host),
            ("nothing", "POST", "/", BODY, headers | {"Authorization": "AWS4-HMAC-SHA256"}),
        )
    }

    assert {status for status, _ in refused.values()} == {403}, refused
    assert "RequestExpired" in refused["time"][1]
    assert "IncompleteSignature" in refused["version 2"][1]


def test_a_signed_url_works_as_it_was_signed(local_aws: LocalAws) -> None:
    """It holds its signature in the query."""
    keys = local_aws.state.keys()
    s3 = boto3.client(
        "s3",
        endpoint_url=local_aws.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        config=Config(signature_version="s3v4"),
    )
    s3.create_bucket(Bucket="gate")
    s3.put_object(Bucket="gate", Key="a b/ü+%41", Body=b"kept")
    given = {"Bucket": "gate", "Key": "a b/ü+%41"}
    url = s3.generate_presigned_url("get_object", Params=given)
    path = url.removeprefix(local_aws.endpoint_url)

    assert answer(local_aws, "GET", path) == (200, "kept")
    assert answer(local_aws, "DELETE", path)[0] == 403
    assert answer(local_aws, "GET", path.replace("%2541", "%2542"))[0] == 403
    assert answer(local_aws, "GET", path[:-1])[0] == 403


def test_nobody_else_reads_the_keys_or_what_is_logged(local_aws: LocalAws) -> None:
    """Not even by name; and each state folder has keys of its own."""
    state = local_aws.state
    private = [state.folder / "keys", state.log, state.calls, state.pids]

    assert [path.stat().st_mode & 0o077 for path in private] == [0] * 4
    for path in private:
        read = ["cat" if path.is_file() else "ls", path]
        ran = subprocess.run(read, capture_output=True, check=False, **processes.unprivileged())
        assert (ran.returncode == 0) is (os.geteuid() != 0)
    assert local_aws.environment()["AWS_SECRET_ACCESS_KEY"] == state.keys().secret_access_key
    assert len({Keys.new().secret_access_key, Keys.new().secret_access_key}) == 2


def test_a_function_is_the_unprivileged_user(
    local_aws: LocalAws, make_function: Callable[..., LocalFunction]
) -> None:
    """With the keys of its role, a folder of its own, and no look at ours."""
    function = make_function(
        """
import os
import boto3

def handler(event, context):
    with open(os.path.join(os.environ["TMPDIR"], "own"), "w") as own:
        own.write("x")
    def opens(path):
        try:
            open(path).close()
        except PermissionError:
            return False
        return True
    return {
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "arn": boto3.client("sts").get_caller_identity()["Arn"],
        "temporary": os.stat(os.environ["TMPDIR"]).st_mode & 0o777,
        "opened": [path for path in event if opens(path)],
        "writes": os.access(os.environ["LAMBDA_TASK_ROOT"], os.W_OK),
        "api": os.environ["AWS_LAMBDA_RUNTIME_API"],
    }
"""
    )
    state = local_aws.state
    closed = [str(state.folder / "keys"), str(state.log), "/etc/shadow"]

    told = function.invoke(closed).response

    user = processes.unprivileged()
    assert told["arn"].startswith("arn:aws:sts::000000000000:assumed-role/tests/")
    assert told["temporary"] == 0o700
    assert told["uid"] == user.get("user", os.getuid())
    if user:
        assert (told["groups"], told["opened"], told["writes"]) == ([], [], False)
        _nobody_else_takes_its_events(told["api"])
    assert function.invoke([]).response["uid"] == told["uid"]


def _nobody_else_takes_its_events(api: str) -> None:
    """Another user gets no answer from the process's Runtime API."""
    host, port = api.split(":")
    next_event = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    script = f"exec 3<>/dev/tcp/{host}/{port}; printf '{next_event}' >&3; cat <&3"
    ran = subprocess.run(
        ["bash", "-c", script], user=65_533, capture_output=True, check=False, timeout=90
    )
    assert ran.stdout == b""


def test_localstacks_own_request_for_somebody_passes(local_aws: LocalAws) -> None:
    """``iam:GetUser`` asks STS in the caller's name, and Terraform asks it first of all."""
    user = local_aws.client("iam").get_user()["User"]

    assert user["Arn"].startswith("arn:aws:iam::000000000000:")
