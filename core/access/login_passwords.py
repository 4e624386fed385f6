"""The passwords of logins that migrations make: kept in Secrets Manager, crash-safe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from core.access.credentials import flaw_of, json_object
from core.errors import InvalidField, NotFound, NotReady, NoValue, Rejected
from core.model import LoginPassword, Secret


class Secrets(Protocol):
    """What keeping passwords needs of Secrets Manager; ``core.aws`` has the real one."""

    def secret(self, name: str, *, stage: str = "AWSCURRENT") -> Secret: ...
    def secret_tags(self, name: str) -> dict[str, str]: ...
    def create_secret(
        self, name: str, text: str, *, description: str, tags: Mapping[str, str]
    ) -> None: ...
    def put_secret(self, name: str, text: str) -> None: ...
    def tag_secret(self, name: str, tags: Mapping[str, str]) -> None: ...
    def untag_secret(self, name: str, tag: str) -> None: ...


class Passwords(Protocol):
    """Where the passwords of logins are kept."""

    def password(self, login: str, *, role_exists: bool) -> LoginPassword:
        """Return the password of *login*, made and kept before this returns."""

    def current(self, login: str) -> str:
        """Return the password in the secret of *login*; nothing is made."""

    def needs_setting(self, login: str) -> bool:
        """Say whether the server may have another password for *login* than its secret."""

    def move(self, login: str) -> bool:
        """Write into the secret of *login* where its database is now; say whether it moved."""

    def settle(self) -> None:
        """Say that every password given out so far is set: its revision is committed."""

    def retire(self, login: str) -> None:
        """Mark the password of *login* as no longer in use; it is kept."""


class LoginPasswords:
    """
    The passwords of one instance's logins (the real ``Passwords``).

    A secret is made before its role, and tagged as unset until the revision that makes the
    role is committed. So a run that dies anywhere in between leaves a secret that the next
    run uses, and knows that the server may still have another password.

    Args:
        folder: What the secrets' names begin with, such as ``day2/orders``.
        prefix: What the tags' names begin with, such as ``day2``.
        address: What goes into each secret beside its password.
        resource_id: The instance's ``DbiResourceId``, where that is known. A later instance
            of the same name has another one, and the passwords of another time.
        user_of: Which database of ours has a resource id, and so is in use beside this one.
    """

    def __init__(
        self,
        store: Secrets,
        folder: str,
        prefix: str,
        address: Mapping[str, object],
        *,
        resource_id: str | None = None,
        user_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._user_of = user_of
        self._folder = folder
        self._unset = f"{prefix}:unset"
        self._retired = f"{prefix}:retired"
        self._set_on = f"{prefix}:dbi-resource-id"
        self._made = f"{prefix}:made"
        self._resource_id = resource_id
        self._address = dict(address)
        self._given: set[str] = set()
        self._tagged: set[str] = set()
        self._came_from_elsewhere: set[str] = set()

    def password(self, login: str, *, role_exists: bool) -> LoginPassword:
        """
        Return the password of *login*, making its secret if there is none.

        Raises:
            NotReady: The secret would have to be changed while a rotation is half-way.
            Rejected: The secret is scheduled for deletion, contains no password of *login*, or is
                in use by another database.
        """
        name = self._name(login)
        try:
            current = self._store.secret(name)
        except NotFound:
            self._given.add(login)
            return LoginPassword(self._make(login), must_be_set=True)
        fields = _fields(current, login)
        tags = self._store.secret_tags(name)
        must_be_set = not role_exists or self._is_in_doubt(tags)
        has_moved = self._has_moved(fields)
        if must_be_set:
            self._check_maker(name, tags)
            self._check_user(name, tags)
        if must_be_set or has_moved:
            self._check_rotation(name, current)
        self._given.add(login)
        if tags.get(self._set_on) != self._resource_id:
            self._came_from_elsewhere.add(login)
        if has_moved:
            # Another instance of the same name, or one that moved.
            self._store.put_secret(name, json.dumps(fields | self._address))
        if self._unset in tags:
            self._tagged.add(login)
        if not role_exists and self._retired in tags:
            self._store.untag_secret(name, self._retired)
        return LoginPassword(fields["password"], must_be_set=must_be_set)

    def current(self, login: str) -> str:
        """
        Return the password in the secret of *login*; nothing is made.

        Raises:
            NotFound: There is none.
            InvalidField: The secret contains no password of *login*.
        """
        return str(_fields(self._store.secret(self._name(login)), login)["password"])

    def needs_setting(self, login: str) -> bool:
        """Say whether the server may have another password for *login* than its secret."""
        try:
            tags = self._store.secret_tags(self._name(login))
        except NotFound:
            return True
        return self._is_in_doubt(tags)

    def move(self, login: str) -> bool:
        """
        Write into the secret of *login* where its database is now; say whether it moved.

        Raises:
            NotFound: The secret is missing.
            NotReady: It is being rotated.
            InvalidField: It contains no password of *login*.
        """
        name = self._name(login)
        current = self._store.secret(name)
        fields = _fields(current, login)
        if not self._has_moved(fields):
            return False
        self._check_rotation(name, current)
        self._store.put_secret(name, json.dumps(fields | self._address))
        return True

    def settle(self) -> None:
        """Say that every password given out so far is set: its revision is committed."""
        for login in sorted(self._given):
            name = self._name(login)
            if login in self._came_from_elsewhere and self._resource_id:
                self._store.tag_secret(name, {self._set_on: self._resource_id})
            if login in self._tagged:
                self._store.untag_secret(name, self._unset)
        self._given.clear()
        self._tagged.clear()
        self._came_from_elsewhere.clear()

    def retire(self, login: str) -> None:
        """Tag the secret of *login* as retired; it is kept, and taken up by a new upgrade."""
        self._given.discard(login)
        self._tagged.discard(login)
        try:
            self._store.tag_secret(
                self._name(login), {self._retired: datetime.now(UTC).isoformat()}
            )
        except NotFound:
            # It was never made, or somebody deleted it: there is nothing to keep.
            return

    def _name(self, login: str) -> str:
        return f"{self._folder}/{login}"

    def _has_moved(self, fields: Mapping[str, object]) -> bool:
        return any(fields.get(key) != value for key, value in self._address.items())

    def _is_in_doubt(self, tags: Mapping[str, str]) -> bool:
        """Say whether a secret with *tags* was not set yet, or was set on another instance."""
        is_elsewhere = self._resource_id and tags.get(self._set_on) not in (None, self._resource_id)
        return self._unset in tags or bool(is_elsewhere)

    def _check_maker(self, name: str, tags: Mapping[str, str]) -> None:
        """
        Refuse a value that somebody put there before us: he would know the login's password.

        Raises:
            Rejected: None of our tags is on the secret *name*.
        """
        if not tags.keys() & {self._made, self._unset, self._retired, self._set_on}:
            raise Rejected(
                f"secret {name} was there before, and its value would become a password: delete "
                f"it, or tag it {self._unset}=true to have that value taken"
            )

    def _check_user(self, name: str, tags: Mapping[str, str]) -> None:
        """
        Refuse a secret that lets applications into another database, which had or has this name.

        The two would write it in turn, and lead the applications of one into the other.

        Raises:
            Rejected: That database is there still, and is ours.
        """
        set_on = tags.get(self._set_on)
        user = None if set_on in (None, self._resource_id) else self._user_of(str(set_on))
        if user is not None:
            raise Rejected(
                f"secret {name} is in use by {user}, which is managed, too: untag or delete one of "
                "the two, or, if this one is new, give it another name"
            )

    def _check_rotation(self, name: str, current: Secret | None) -> None:
        """
        Refuse to work beside a rotation that has a next password and has not made it current.

        It may have set that password already: ours would then be the one that is wrong.
        """
        try:
            pending = self._store.secret(name, stage="AWSPENDING")
        except NotFound:
            return
        if current is None or pending.text != current.text:
            raise NotReady(
                f"secret {name} is being rotated (it has an AWSPENDING value): try again when "
                "the rotation has ended, or take that label away if it was given up"
            )

    def _make(self, login: str) -> str:
        """
        Make the secret of *login*, in the JSON that AWS's rotation functions read.

        One that is there without a value, as a template makes it ahead, keeps its key and its
        tags and gets a value. It is tagged first: a run that dies in between is taken up.
        """
        # Imported here: only a new login needs it.
        import secrets

        password = secrets.token_urlsafe(32)
        fields = {"engine": "postgres", "username": login, "password": password}
        name, text = self._name(login), json.dumps(fields | self._address)
        tags = {self._unset: "true"}
        self._tagged.add(login)
        # One of them stays when the password is set, and says that we have made it.
        if self._resource_id:
            tags[self._set_on] = self._resource_id
        else:
            tags[self._made] = "true"
        there = self._tags_of_one_to_come(name)
        if there is not None:
            self._check_rotation(name, None)
            self._store.tag_secret(name, tags)
            if self._retired in there:
                self._store.untag_secret(name, self._retired)
            self._store.put_secret(name, text)
        else:
            description = f"Login {login} of {self._folder}"
            self._store.create_secret(name, text, description=description, tags=tags)
        return password

    def _tags_of_one_to_come(self, name: str) -> Mapping[str, str] | None:
        """Return the tags of the secret *name* if it is there for a value to come."""
        try:
            self._store.secret_tags(name)
        except NoValue as without:
            return without.tags
        except NotFound:
            return None
        # Somebody has stored a value a moment ago: the next try finds it.
        raise NotReady(f"secret {name} was made just now: try again")


def _fields(secret: Secret, login: str) -> dict[str, Any]:
    """Return the JSON fields of the secret of *login*, of which the password is needed."""
    fields = json_object(secret.text)
    password = fields.get("password") if fields else None
    if not fields or not isinstance(password, str) or not password:
        raise InvalidField(
            f"secret {secret.name}", "contains no password", "store rotation JSON, or delete it"
        )
    flaw = flaw_of(password)
    if flaw is not None:
        raise InvalidField(f"secret {secret.name}, field password", flaw, "store another password")
    if fields.get("username", login) != login:
        raise InvalidField(
            f"secret {secret.name}, field username", f"is not {login}", "store that, or delete it"
        )
    return dict(fields)
