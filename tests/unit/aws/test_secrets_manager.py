"""Secrets: read, made, changed and tagged."""

from __future__ import annotations

import pytest
from botocore.stub import ANY

from core.aws.account import Aws
from core.errors import InvalidField, NoValue
from core.model import Secret
from core.settings import Settings
from tests.unit.aws.answers import Stub, set_to

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:orders-master-AbCdEf"


def test_a_secret_is_read_at_its_stage(aws: Aws, stub: Stub) -> None:
    """The name and ARN are the secret's own, whichever of them was asked for."""
    stub("secretsmanager").add_response(
        "get_secret_value",
        {"Name": "orders-master", "ARN": ARN, "SecretString": "{}"},
        {"SecretId": ARN, "VersionStage": "AWSPENDING"},
    )

    assert aws.secret(ARN, stage="AWSPENDING") == Secret("orders-master", ARN, "{}")


def test_a_binary_secret_is_refused(aws: Aws, stub: Stub) -> None:
    """Master secrets are JSON text."""
    stub("secretsmanager").add_response(
        "get_secret_value", {"Name": "orders-master", "ARN": ARN, "SecretBinary": b"x"}
    )

    with pytest.raises(InvalidField) as caught:
        aws.secret("orders-master")

    assert str(caught.value) == ("secret orders-master: is binary: store JSON as its SecretString")


def test_login_secrets_are_listed_by_name_and_tag_page_by_page(aws: Aws, stub: Stub) -> None:
    """A hundred a call, and none of somebody else's."""
    tag = {"Key": "day2:dbi-resource-id", "Value": "db-ORDERS"}
    asked = {
        "MaxResults": 100,
        "Filters": [
            {"Key": "name", "Values": ["day2/"]},
            {"Key": "tag-key", "Values": ["day2:dbi-resource-id"]},
        ],
    }
    names = ["day2/orders/app_user", "day2/orders/backup_user"]
    for name, asks, more in (
        (names[0], asked, {"NextToken": "next"}),
        (names[1], asked | {"NextToken": "next"}, {}),
    ):
        listed = {"SecretList": [{"Name": name, "Tags": [tag]}], **more}
        stub("secretsmanager").add_response("list_secrets", listed, asks)

    assert list(aws.login_secrets()) == [(name, {tag["Key"]: tag["Value"]}) for name in names]


@pytest.mark.parametrize("versions", [{}, {"v" * 32: ["AWSPENDING"]}])
def test_a_secret_without_a_value_is_told_from_one_that_is_not_there(
    versions: dict[str, list[str]], aws: Aws, stub: Stub
) -> None:
    """A template makes it ahead; AWS has the same code for both when its value is asked for."""
    found = {"Tags": [], "VersionIdsToStages": versions} if versions else {"Tags": []}
    stub("secretsmanager").add_response("describe_secret", found, {"SecretId": ARN})

    with pytest.raises(NoValue):
        aws.secret_tags(ARN)


@pytest.mark.parametrize(("key", "extra"), [("", {}), ("arn:key", {"KmsKeyId": "arn:key"})])
def test_a_secret_is_made_under_the_stacks_key(
    key: str, extra: dict[str, str], stub: Stub, shared: Aws
) -> None:
    """Without a key of its own the stack uses that of Secrets Manager."""
    stub("secretsmanager").add_response(
        "create_secret",
        {},
        {
            "Name": "day2/orders/app_user",
            "ClientRequestToken": ANY,
            "Description": "a login",
            "SecretString": "{}",
            "Tags": [{"Key": "day2:unset", "Value": "true"}],
            **extra,
        },
    )

    set_to(shared, Settings(secret_kms_key_id=key)).create_secret(
        "day2/orders/app_user", "{}", description="a login", tags={"day2:unset": "true"}
    )


def test_a_secret_is_changed_and_tagged(aws: Aws, stub: Stub) -> None:
    """Each change is the one call that the role allows."""
    of = {"SecretId": "day2/orders/app_user"}
    stub("secretsmanager").add_response(
        "put_secret_value", {}, of | {"SecretString": "{}", "ClientRequestToken": ANY}
    )
    stub("secretsmanager").add_response(
        "tag_resource", {}, of | {"Tags": [{"Key": "day2:retired", "Value": "now"}]}
    )
    stub("secretsmanager").add_response("untag_resource", {}, of | {"TagKeys": ["day2:unset"]})

    aws.put_secret("day2/orders/app_user", "{}")
    aws.tag_secret("day2/orders/app_user", {"day2:retired": "now"})
    aws.untag_secret("day2/orders/app_user", "day2:unset")
