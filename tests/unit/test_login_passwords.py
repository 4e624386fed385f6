"""The passwords of logins: one secret each, and safe whenever a run dies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from core.access.login_passwords import LoginPasswords
from core.errors import InvalidField, NotFound, NotReady, NoValue, Rejected
from core.model import LoginPassword, Secret

NAME = "day2/orders/app_user"
ADDRESS = {
    "host": "orders.example",
    "port": 5432,
    "dbname": "shop",
    "dbInstanceIdentifier": "orders",
}


@dataclass
class FakeSecrets:
    """Secrets Manager in memory: texts, tags, and every call that changed something."""

    texts: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret:
        """Return the secret *name*; at another stage it is kept as ``name@stage``."""
        key = name if stage == "AWSCURRENT" else f"{name}@{stage}"
        if key not in self.texts:
            raise NotFound(f"secret {name} does not exist")
        return Secret(name, name, self.texts[key])

    def secret_tags(self, name: str) -> dict[str, str]:
        """Return the tags of the secret *name*."""
        if name not in self.texts and name in self.tags:
            raise NoValue(f"secret {name} has no value", self.tags[name])
        self.secret(name)
        return dict(self.tags[name])

    def create_secret(
        self, name: str, text: str, *, description: str, tags: Mapping[str, str]
    ) -> None:
        """Make the secret *name*."""
        assert name not in self.texts
        self.changes.append(f"create {name}: {description}")
        self.texts[name], self.tags[name] = text, dict(tags)

    def put_secret(self, name: str, text: str) -> None:
        """Replace the text of the secret *name*."""
        self.changes.append(f"put {name}")
        assert name in self.tags
        self.texts[name] = text

    def tag_secret(self, name: str, tags: Mapping[str, str]) -> None:
        """Add *tags* to the secret *name*."""
        self._check(name)
        self.tags[name] |= tags

    def untag_secret(self, name: str, tag: str) -> None:
        """Take *tag* from the secret *name*, which has it: AWS takes fifty of these a second."""
        self._check(name)
        del self.tags[name][tag]

    def _check(self, name: str) -> None:
        if name not in self.tags:
            raise NotFound(f"secret {name} does not exist")

    def fields(self, name: str = NAME) -> dict[str, Any]:
        """Return what the secret *name* holds."""
        return dict(json.loads(self.texts[name]))


# Where no instance is known, it says that we made the secret.
MADE = {"day2:made": "true"}


def passwords(store: FakeSecrets, resource_id: str | None = None) -> LoginPasswords:
    """Return the passwords of the logins of ``orders``, as each run takes them."""
    return LoginPasswords(store, "day2/orders", "day2", ADDRESS, resource_id=resource_id)


@pytest.fixture
def store() -> FakeSecrets:
    """Return an empty Secrets Manager."""
    return FakeSecrets()


@pytest.fixture
def settled(store: FakeSecrets) -> FakeSecrets:
    """Return one where the login's secret was made and its revision committed."""
    run = passwords(store)
    run.password("app_user", role_exists=False)
    run.settle()
    store.changes.clear()
    return store


def test_a_new_login_gets_a_secret_in_rotation_format(store: FakeSecrets) -> None:
    """AWS's own rotation functions can read it, and it is tagged until the commit."""
    given = passwords(store).password("app_user", role_exists=False)

    assert given.must_be_set
    assert store.fields() == {
        "engine": "postgres",
        "username": "app_user",
        "password": given.password,
        **ADDRESS,
    }
    assert store.tags == {NAME: {"day2:unset": "true"} | MADE}
    assert store.changes == [f"create {NAME}: Login app_user of day2/orders"]


@pytest.mark.parametrize("tags", [{}, {"team": "shop"}, {"day2:retired": "2026-01-01"}])
def test_a_secret_without_a_value_gets_one(store: FakeSecrets, tags: dict[str, str]) -> None:
    """A template made the secret ahead: it keeps its key and tags, and is in doubt until then."""
    store.tags[NAME] = dict(tags)
    run = passwords(store)
    assert run.needs_setting("app_user")

    given = run.password("app_user", role_exists=True)

    assert given == LoginPassword(store.fields()["password"], must_be_set=True)
    assert store.changes == [f"put {NAME}"]
    kept = {name: value for name, value in tags.items() if name == "team"}
    assert store.tags[NAME] == kept | MADE | {"day2:unset": "true"}
    run.settle()
    assert store.tags[NAME] == kept | MADE


def test_a_run_that_died_before_the_value_is_taken_up(store: FakeSecrets) -> None:
    """The tag is there and the value is not: the next run stores one."""
    store.tags[NAME] = {"day2:unset": "true"}

    assert passwords(store).password("app_user", role_exists=False).must_be_set
    assert store.fields()["username"] == "app_user"


def test_a_first_value_is_not_stored_beside_a_rotation(store: FakeSecrets) -> None:
    """A rotation that is on its way to the first value would set another password."""
    store.tags[NAME] = {}
    store.texts[f"{NAME}@AWSPENDING"] = json.dumps({"password": "next"})

    with pytest.raises(NotReady, match="is being rotated"):
        passwords(store).password("app_user", role_exists=False)

    assert store.changes == []


@pytest.mark.parametrize(
    ("password", "flaw"),
    [
        ("a\0b", "contains a NUL character"),
        ("\0", "contains a NUL character"),
        ("x\udc80y", "contains half of a surrogate pair"),
        ("\ud83d", "contains half of a surrogate pair"),
    ],
)
def test_a_password_that_postgresql_cannot_have_is_refused(
    settled: FakeSecrets, password: str, flaw: str
) -> None:
    """Cut at its NUL it would be another password, and a short one."""
    settled.texts[NAME] = json.dumps(settled.fields() | {"password": password})

    with pytest.raises(InvalidField) as caught:
        passwords(settled).password("app_user", role_exists=False)

    assert str(caught.value) == (f"secret {NAME}, field password: {flaw}: store another password")


def test_passwords_are_long_and_never_the_same(store: FakeSecrets) -> None:
    """Each has 256 random bits, and no character that a URL or a shell would mistake."""
    run = passwords(store)
    made = {run.password(f"user_{number}", role_exists=False).password for number in range(50)}

    assert len(made) == 50
    assert [one for one in made if not re.fullmatch("[A-Za-z0-9_-]{43}", one)] == []


def test_a_committed_revision_settles_its_logins(store: FakeSecrets) -> None:
    """After the commit the server has the secret's password, and the tag goes."""
    run = passwords(store)
    run.password("app_user", role_exists=False)
    run.password("analytics_user", role_exists=False)

    run.settle()

    assert store.tags == {NAME: MADE, "day2/orders/analytics_user": MADE}


def test_a_known_login_is_never_reset(settled: FakeSecrets) -> None:
    """The password of a role that exists together with its secret stays what it is."""
    before = settled.fields()

    given = passwords(settled).password("app_user", role_exists=True)

    assert given == LoginPassword(before["password"], must_be_set=False)
    assert (settled.fields(), settled.changes) == (before, [])


def test_a_run_that_died_before_its_commit_is_taken_up(store: FakeSecrets) -> None:
    """The secret is there and the role is not: the next run uses the secret's password."""
    first = passwords(store).password("app_user", role_exists=False)

    second = passwords(store).password("app_user", role_exists=False)

    assert second == LoginPassword(first.password, must_be_set=True)


def test_a_run_that_died_after_its_commit_sets_the_password_once_more(store: FakeSecrets) -> None:
    """The role is there and the tag is too: which password it has is not known, so it is set."""
    run = passwords(store)
    first = run.password("app_user", role_exists=False)

    again = passwords(store)
    second = again.password("app_user", role_exists=True)
    again.settle()

    assert second == LoginPassword(first.password, must_be_set=True)
    assert not passwords(store).password("app_user", role_exists=True).must_be_set


def test_a_failed_revision_settles_nothing_of_a_later_run(store: FakeSecrets) -> None:
    """What a run that died gave out is not settled by the next one, unless it gives it out too."""
    passwords(store).password("app_user", role_exists=False)
    later = passwords(store)
    later.password("analytics_user", role_exists=False)

    later.settle()

    assert store.tags == {
        NAME: {"day2:unset": "true"} | MADE,
        "day2/orders/analytics_user": MADE,
    }


def test_a_role_without_its_secret_gets_a_new_password(store: FakeSecrets) -> None:
    """Somebody deleted the secret, or made the role: nobody knows the password, so it is set."""
    given = passwords(store).password("app_user", role_exists=True)

    assert given == LoginPassword(store.fields()["password"], must_be_set=True)


def test_a_secret_without_its_role_keeps_its_password(settled: FakeSecrets) -> None:
    """Somebody dropped the role: it is made anew with the password that applications have."""
    before = settled.fields()

    given = passwords(settled).password("app_user", role_exists=False)

    assert given == LoginPassword(before["password"], must_be_set=True)
    assert settled.fields() == before


def test_a_retired_secret_is_kept_and_taken_up_again(settled: FakeSecrets) -> None:
    """A downgrade deletes no password; the next upgrade takes the tag away."""
    before = settled.fields()

    passwords(settled).retire("app_user")
    assert datetime.fromisoformat(settled.tags[NAME]["day2:retired"]).tzinfo is not None

    given = passwords(settled).password("app_user", role_exists=False)
    assert given == LoginPassword(before["password"], must_be_set=True)
    assert (settled.fields(), settled.tags) == (before, {NAME: MADE})


def test_retiring_what_is_not_there_is_no_error(store: FakeSecrets) -> None:
    """A downgrade works also where somebody deleted the secret."""
    passwords(store).retire("app_user")

    assert store == FakeSecrets()


def test_a_login_that_is_retired_again_is_not_settled(store: FakeSecrets) -> None:
    """A run that goes up and down again leaves the secret marked as not set."""
    run = passwords(store)
    run.password("app_user", role_exists=False)
    run.retire("app_user")

    run.settle()

    assert set(store.tags[NAME]) == {"day2:unset", "day2:retired", *MADE}


def test_a_moved_database_is_written_into_the_secret(settled: FakeSecrets) -> None:
    """A new endpoint replaces the old one; the password and foreign fields stay."""
    settled.texts[NAME] = json.dumps(settled.fields() | {"owners": ["shop"], "host": "old"})
    before = settled.fields()

    given = passwords(settled).password("app_user", role_exists=True)

    assert given == LoginPassword(before["password"], must_be_set=False)
    assert settled.fields() == before | ADDRESS
    assert settled.changes == [f"put {NAME}"]


@pytest.mark.parametrize(
    "text", ["", "s3cr3t", '["s3cr3t"]', "{}", '{"password": ""}', '{"password": 7}']
)
def test_a_secret_without_a_password_is_refused_and_not_shown(
    text: str, settled: FakeSecrets
) -> None:
    """Somebody stored something else: it is neither used nor overwritten nor quoted."""
    settled.texts[NAME] = text

    with pytest.raises(InvalidField) as caught:
        passwords(settled).password("app_user", role_exists=True)

    assert str(caught.value) == (
        f"secret {NAME}: contains no password: store rotation JSON, or delete it"
    )
    assert settled.texts[NAME] == text


@pytest.mark.parametrize(
    ("tags", "expected"), [({}, False), ({"day2:unset": "true"}, True), (None, True)]
)
def test_a_login_needs_setting_while_its_password_may_differ(
    store: FakeSecrets, tags: dict[str, str] | None, *, expected: bool
) -> None:
    """An unset tag or a missing secret means that the server may have another password."""
    if tags is not None:
        store.create_secret(NAME, '{"password": "x"}', description="", tags=tags)

    assert passwords(store).needs_setting("app_user") is expected


def test_a_secret_of_an_earlier_instance_is_set_on_this_one(store: FakeSecrets) -> None:
    """Restored under the same name, an instance may have an older password: it is set once."""
    earlier = passwords(store, "db-EARLIER")
    first = earlier.password("app_user", role_exists=False)
    earlier.settle()
    assert store.tags == {NAME: {"day2:dbi-resource-id": "db-EARLIER"}}

    restored = passwords(store, "db-RESTORED")
    needs_setting = restored.needs_setting("app_user")
    given = restored.password("app_user", role_exists=True)
    restored.settle()

    assert needs_setting
    assert given == LoginPassword(first.password, must_be_set=True)
    assert store.tags == {NAME: {"day2:dbi-resource-id": "db-RESTORED"}}
    assert not passwords(store, "db-RESTORED").password("app_user", role_exists=True).must_be_set


def test_a_secret_that_names_no_instance_is_believed_and_marked(settled: FakeSecrets) -> None:
    """A secret from before the tag is this instance's; from now on that can be told."""
    run = passwords(settled, "db-ORDERS")

    given = run.password("app_user", role_exists=True)
    run.settle()

    assert not given.must_be_set
    assert settled.tags == {NAME: MADE | {"day2:dbi-resource-id": "db-ORDERS"}}


@pytest.mark.parametrize("tags", [{}, {"team": "shop"}, {"other:unset": "true"}])
def test_a_value_that_somebody_put_there_before_us_is_refused(
    settled: FakeSecrets, tags: dict[str, str]
) -> None:
    """Whoever may make secrets of our names would else choose, and know, a login's password."""
    settled.tags[NAME] = dict(tags)

    with pytest.raises(Rejected) as caught:
        passwords(settled).password("app_user", role_exists=False)

    assert f"secret {NAME} was there before" in str(caught.value)
    assert not passwords(settled).password("app_user", role_exists=True).must_be_set


def test_nothing_is_changed_beside_a_rotation(settled: FakeSecrets) -> None:
    """A next password may be set already, so ours would be the one that is wrong."""
    settled.texts[f"{NAME}@AWSPENDING"] = json.dumps(settled.fields() | {"password": "next"})

    with pytest.raises(NotReady) as caught:
        passwords(settled).password("app_user", role_exists=False)

    assert str(caught.value) == (
        f"secret {NAME} is being rotated (it has an AWSPENDING value): try again when the "
        "rotation has ended, or take that label away if it was given up"
    )
    assert not passwords(settled).password("app_user", role_exists=True).must_be_set


def test_a_rotation_that_has_ended_is_none(settled: FakeSecrets) -> None:
    """Rotation may leave its label on what is the current value by now."""
    settled.texts[f"{NAME}@AWSPENDING"] = settled.texts[NAME]

    assert passwords(settled).password("app_user", role_exists=False).must_be_set


def test_a_secret_of_another_login_is_refused(settled: FakeSecrets) -> None:
    """Somebody stored another login's secret under this name: its password is not given away."""
    settled.texts[NAME] = json.dumps(settled.fields() | {"username": "master"})

    with pytest.raises(InvalidField) as caught:
        passwords(settled).password("app_user", role_exists=True)

    assert str(caught.value) == (
        f"secret {NAME}, field username: is not app_user: store that, or delete it"
    )
