"""A database that was in use before day2, taken over step by step as infra/TAKE_OVER.md says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.local import stack
from tests.e2e.account import Account
from tests.equipment import documents

NAME = "brownfield"
PAGE = "infra/TAKE_OVER.md"

# Made by hand, long ago: roles of our names, another owner, an application with its own Alembic.
THERE = """
CREATE ROLE app_role; CREATE ROLE app_user LOGIN PASSWORD 'of the application';
CREATE ROLE legacy_owner; GRANT legacy_owner TO postgres;
CREATE SCHEMA app_schema AUTHORIZATION legacy_owner;
CREATE ROLE shop; GRANT shop TO postgres; GRANT USAGE, CREATE ON SCHEMA public TO shop;
SET ROLE shop;
CREATE TABLE public.orders (id bigint);
CREATE TABLE public.alembic_version (version_num varchar(32));
INSERT INTO public.alembic_version VALUES ('ae1027a6acf');
RESET ROLE
"""
THEIRS = "SELECT version_num, xmin::text FROM public.alembic_version"


def asked(action: str, number: int = 0) -> dict[str, Any]:
    """Return the request of *action* that the page shows, for our instance."""
    found = [json.loads(block) for language, block in documents.fences(PAGE) if language == "json"]
    return [one for one in found if one["action"] == action][number] | {"instance": NAME}


@pytest.fixture(scope="module", autouse=True)
def brownfield(account: Account) -> Iterator[None]:
    """Make it, without tag and target, and allow for a while what only a person may ask for."""
    stack.deploy(account.aws, parameters={"AllowRollback": "true"})
    account.create(NAME, tagged=False)
    account.has_become(NAME, "available")
    account.query(NAME, THERE)
    yield
    account.remove(NAME)
    stack.deploy(account.aws)


def test_a_database_in_use_is_taken_over_in_the_order_of_the_page(account: Account) -> None:
    """Nothing is taken before it is named, and from then on a bump is a bump."""
    before = account.query(NAME, THEIRS)

    planned = account.ask(**asked("plan"))
    stamped = account.ask(**asked("stamp"))
    checked = account.ask(**asked("check"))
    assert {(one["name"], one["becomes"]) for one in planned["exists"]} == {
        ("app_role", "taken over"),
        ("app_user", "taken over"),
        ("app_schema", "taken over"),
        ("public", "closed to PUBLIC"),
        ("public.alembic_version", "left as it is"),
    }
    assert (stamped["outcome"], stamped["final_revision"]) == ("APPLIED", "001")
    login = {"username": "app_user", "password": "of the application"}
    assert account.query(NAME, "SELECT session_user::text", login) == ("app_user",)
    told = {(one["role"], one["privilege"]): one["statement"] for one in checked["drift"]}
    assert any("app_schema" in privilege for _, privilege in told), told

    for one in checked["drift"]:
        if not one["statement"].startswith("--"):
            account.query(NAME, one["statement"])
    adopted = account.ask(**asked("adopt"))
    again = account.ask(**asked("check", -1))
    assert adopted["outcome"] == "APPLIED"
    assert again["drift"] == []
    own = account.secret(f"{stack.STACK}/{NAME}/app_user")
    assert account.query(NAME, "SELECT current_user::text", own) == ("app_role",)

    account.client("rds").add_tags_to_resource(
        ResourceName=account.instance(NAME)["DBInstanceArn"],
        Tags=[{"Key": stack.STACK, "Value": "enabled"}],
    )
    assert account.run(account.declare(NAME, "001"))["outcome"] == "UP_TO_DATE"
    account.declare(NAME, "002")
    bumped = account.result(NAME, outcome="APPLIED", final_revision="002")
    assert bumped["applied_migrations"] == ["002"]
    assert account.query(NAME, THEIRS) == before
