"""The function's variables: each field has one, and a wrong one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InvalidField
from core.settings import INI, RDS_CA_BUNDLE, Settings

BUILD = {"DAY2_BUILD": "0123456789ab"}


def test_the_ini_file_is_read_in_any_locale() -> None:
    """Alembic reads it in the locale's encoding, which a shell may set to ASCII."""
    assert Path(INI).read_bytes().isascii()


def test_the_defaults_are_the_designs() -> None:
    """A function without variables behaves as the design says."""
    assert Settings.from_env(BUILD)._asdict() == {
        "prefix": "day2",
        "master_secret_name": "",
        "follow_head": False,
        "manage_all": False,
        "instance_name_prefix": "",
        "lock_wait_seconds": 60,
        "ready_deadline_seconds": 7200,
        "margin_seconds": 10,
        "minimum_slice_seconds": 30,
        "relation_lock_timeout_ms": 2000,
        "revision_tries": 5,
        "strict_checksums": False,
        "allow_rollback": False,
        "iam_authentication": False,
        "ca_file": RDS_CA_BUNDLE,
        "vpc_id": "",
        "security_group_ids": "",
        "waiting_queue_arn": "",
        "waiting_queue_url": "",
        "result_topic_arn": "",
        "secret_kms_key_id": "",
        "migrations": "",
        "build": "0123456789ab",
    }


def test_each_setting_is_read_from_its_variable(subtests: pytest.Subtests) -> None:
    """``DAY2_`` and the field's name in capitals is the variable."""
    given = {bool: ("true", True), int: (" 7 ", 7), str: ("other", "other")}
    for name, default in Settings()._asdict().items():
        with subtests.test(name):
            text, value = given[type(default)]

            found = Settings.from_env(BUILD | {f"DAY2_{name.upper()}": text})

            assert found._asdict() == Settings(build=BUILD["DAY2_BUILD"])._asdict() | {name: value}


def test_an_empty_variable_keeps_its_default() -> None:
    """CloudFormation passes an empty parameter as an empty variable."""
    empty = {f"DAY2_{name.upper()}": " " for name in Settings()._asdict()} | BUILD

    assert Settings.from_env(empty) == Settings.from_env(BUILD)


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("DAY2_FOLLOW_HEAD", "yes", "is not a boolean: give true or false"),
        ("DAY2_MANAGE_ALL", "True", "is not a boolean: give true or false"),
        ("DAY2_MARGIN_SECONDS", "-1", "is not a whole number: use digits only"),
        ("DAY2_REVISION_TRIES", "1.5", "is not a whole number: use digits only"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variable: str, text: str, problem: str) -> None:
    """A typing error in the template does not become a default."""
    with pytest.raises(InvalidField) as caught:
        Settings.from_env({variable: text})

    assert str(caught.value) == f"{variable}: {text!r} {problem}"
