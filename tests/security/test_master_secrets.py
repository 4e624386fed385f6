"""The master's secret: what is refused by name, what works, and what a rotation does to a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.equipment.small_aws import AwsCall, Fault, arn, secret_arn
from tests.equipment.world import INSTANCE, MASTER_SECRET, World

STATUS = {"instance": INSTANCE, "action": "status"}
MARKER = "marker-of-the-password"
GOOD = {"username": "postgres", "password": MARKER}

# The secret's text, and what the answer says of it.
REFUSED = {
    "no JSON": ("{'username': 'postgres'}", "is not a JSON object"),
    "no object": (json.dumps([MARKER]), "is not a JSON object"),
    "another engine": (json.dumps(GOOD | {"engine": "mysql"}), "field engine: is not postgres"),
    "no password": (json.dumps({"username": "postgres"}), "field password: is missing"),
    "no user": (json.dumps({"password": MARKER}), "field username: is missing"),
    "a password that is not text": (
        json.dumps({"username": "postgres", "password": 5}),
        "field password: is not text",
    ),
    "a password with NUL": (
        json.dumps({"username": "postgres", "password": f"{MARKER}\0"}),
        "field password: contains a NUL",
    ),
    "another instance": (
        json.dumps(GOOD | {"dbInstanceIdentifier": "billing"}),
        "is for instance billing, not orders",
    ),
    "no port": (json.dumps(GOOD | {"port": "many"}), "field port: is not a TCP port"),
}

# The master's passwords: any printable character, SASLprep, lengths.
PASSWORDS = {
    "URL signs": "a%40b@:/?#[]&=+ %",
    "quotes": """it's "quoted" \\ and `that` $1 ${HOME} %s %(x)s {0}""",
    "spaces around": "  spaces  ",
    "unicode": "пароль-密码-🔑",
    # SASLprep: a compatibility letter, a non-ASCII space, a soft hyphen that goes.
    "SASLprep": "ﬁsh\u00a0and\u00adchips Ⅸ",
    "128 characters": "x'%" * 42 + "yz",
    "a whole URL": "postgresql://postgres:secret@elsewhere:5432/db?sslmode=disable",
    "a conninfo": "x' host=elsewhere sslmode=disable password='y",
    "every printable sign": "".join(map(chr, range(33, 127))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_secret_is_refused_by_name(world: World, case: str) -> None:
    """The answer names the secret and the field, and never shows a value."""
    text, problem = REFUSED[case]
    world.aws.keep(MASTER_SECRET, text)

    answer = world.call(STATUS)

    assert answer.outcome == "REJECTED"
    assert f"{MASTER_SECRET}" in answer.body["message"]
    assert problem in answer.body["message"]
    assert MARKER not in json.dumps(answer.response) + answer.log


def test_binary_secret_is_refused(world: World) -> None:
    """A secret that is no text is none of ours."""
    world.aws.secrets[MASTER_SECRET].is_binary = True

    answer = world.call(STATUS)

    assert (answer.outcome, "is binary" in answer.body["message"]) == ("REJECTED", True)


def test_missing_secret_is_not_found(world: World) -> None:
    """An old instance's secret that is not there will not come by itself."""
    del world.aws.secrets[MASTER_SECRET]

    answer = world.call(STATUS)

    assert (answer.outcome, MASTER_SECRET in answer.body["message"]) == ("NOT_FOUND", True)


def test_managed_secret_that_is_being_made_is_waited_for(world: World) -> None:
    """RDS says itself when its secret cannot be used yet."""
    declare_managed(world, "creating")

    answer = world.call(STATUS, variables={"DAY2_MINIMUM_SLICE_SECONDS": "60"})

    assert answer.outcome == "NOT_READY"
    assert "still making" in answer.body["message"]


def test_impaired_managed_secret_is_used_with_a_warning(world: World) -> None:
    """It has the password still, and somebody has to mend what keeps RDS from rotating it."""
    declare_managed(world, "impaired")
    world.aws.keep(
        "rds!db-1",
        {"username": "postgres", "password": world.server.master_password},
        # Of the time before a new name.
        **{"aws:rds:primaryDBInstanceArn": arn("rds", "db:orders-2025")},
    )

    answer = world.migrate("001")

    assert answer.outcome == "APPLIED"
    assert "secret is impaired" in answer.body["warnings"][0]


def declare_managed(world: World, status: str) -> None:
    """Have RDS keep the master secret of the instance, in *status*."""
    secret = {"SecretArn": secret_arn("rds!db-1"), "SecretStatus": status}
    world.declare_instance(TagList=[], MasterUserSecret=secret)


def test_managed_secret_of_another_instance_is_refused(world: World) -> None:
    """RDS says which secret it keeps for an instance, and that holds whoever names another."""
    world.aws.keep(
        "rds!db-1",
        {"username": "postgres", "password": MARKER},
        **{"aws:rds:primaryDBInstanceArn": arn("rds", "db:billing")},
    )

    answer = world.call({**STATUS, "secret_name": "rds!db-1"})

    assert answer.outcome == "REJECTED"
    assert "is not the one that RDS keeps for orders" in answer.body["message"]


@pytest.mark.parametrize("case", PASSWORDS)
def test_awkward_password_works(world: World, case: str) -> None:
    """Whatever is in it, it is a password and nothing else."""
    usual = world.server.master_password
    world.server.set_password("postgres", PASSWORDS[case])
    try:
        world.aws.keep(MASTER_SECRET, {"username": "postgres", "password": PASSWORDS[case]})

        answer = world.call(STATUS)
    finally:
        world.server.set_password("postgres", usual)

    assert answer.outcome == "STATUS", answer.body["message"]


@pytest.mark.parametrize("stage", ["AWSCURRENT", "AWSPENDING"])
def test_rotation_in_the_middle_of_a_run_is_survived(world: World, stage: str) -> None:
    """The password that was just read is refused: the current and the pending one are tried."""
    usual = world.server.master_password
    secret = world.aws.secrets[MASTER_SECRET]

    def rotate(call: AwsCall) -> None:
        if call.action == "secretsmanager:GetSecretValue":
            world.aws.after = lambda _call: None
            world.server.set_password("postgres", "the next one")
            secret.put(json.dumps(GOOD | {"password": "the next one"}), stage)

    world.aws.after = rotate
    try:
        answer = world.call(STATUS)
    finally:
        world.server.set_password("postgres", usual)

    assert answer.outcome == "STATUS"
    asked = world.aws.called("secretsmanager:GetSecretValue")
    stages = [arguments["VersionStage"] for arguments in asked]
    tried = ["AWSCURRENT", "AWSCURRENT", "AWSPENDING"]
    assert stages == (tried[:2] if stage == "AWSCURRENT" else tried)


def test_wrong_password_is_tried_once_and_named(world: World) -> None:
    """A secret that is just wrong is no rotation: the answer says so, and locks nobody out."""
    world.aws.keep(MASTER_SECRET, GOOD)

    answer = world.call(STATUS)

    assert answer.outcome == "ACCESS_DENIED"
    assert "28P01" in answer.body["message"]
    assert MARKER not in json.dumps(answer.response) + answer.log


def test_denied_secret_is_named(world: World) -> None:
    """What the role may not read is said with the permission that is missing."""
    world.aws.faults["secretsmanager:GetSecretValue"] = Fault("AccessDeniedException")

    answer = world.call(STATUS)

    assert answer.outcome == "ACCESS_DENIED"
    assert "secretsmanager:GetSecretValue" in answer.body["message"]


def test_a_master_who_takes_no_token_and_has_no_secret_is_told_both_ways(
    world: World, tmp_path: Path
) -> None:
    """With IamAuthentication a token is sent first, and not shown."""
    world.declare_instance(IAMDatabaseAuthenticationEnabled="true")
    del world.aws.secrets[MASTER_SECRET]

    answer = world.call(STATUS, variables={"DAY2_IAM_AUTHENTICATION": "true"})

    # PostgreSQL without RDS's PAM knows no token: that it refuses the master's password is the
    # proof that a token was sent; what one looks like is tested beside it.
    assert answer.outcome == "ACCESS_DENIED"
    assert (
        "takes passwords only from postgres (28P01), and a token was given"
        in answer.body["message"]
    )
    assert "X-Amz-Signature" not in json.dumps(answer.response) + answer.log
    assert tmp_path
