"""What the server's codes mean outside a revision, told without a password."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError

from core.errors import (
    AccessDenied,
    LockBusy,
    MigrationError,
    NotFound,
    NotReady,
    RunFailed,
    WrongPassword,
)
from core.model import Database
from core.postgres.connecting import parameters
from core.postgres.refusals import closed_door, meaning_of, translating

DATABASE = Database("orders.example", 5432, "shop", "master", "s3cr3t", "/ca.pem")

# PostgreSQL documentation, Appendix A.
MEANINGS: list[tuple[str | None, type[MigrationError]]] = [
    ("28P01", WrongPassword),
    ("28000", AccessDenied),
    ("3D000", NotFound),
    ("42501", AccessDenied),
    ("25006", RunFailed),
    ("25P04", RunFailed),
    ("53300", NotReady),
    ("53400", NotReady),
    ("57014", NotReady),
    ("55P03", LockBusy),
    ("57P01", NotReady),
    ("57P03", NotReady),
    ("08006", NotReady),
    (None, NotReady),
    ("42601", RunFailed),
    ("XX000", RunFailed),
]


@pytest.mark.parametrize(("code", "kind"), MEANINGS)
def test_a_code_means(code: str | None, kind: type[MigrationError]) -> None:
    """Each code is the error that says what to do, with the code and the place in it."""
    found = meaning_of(code, DATABASE)

    assert type(found) is kind
    assert "orders.example:5432" in str(found)
    assert code is None or code in str(found)
    assert "s3cr3t" not in str(found)


def test_an_event_trigger_on_login_is_told_as_one() -> None:
    """What it raises as we connect has its code; it is not called an answer to a statement."""
    told = closed_door("P0001", DATABASE)

    assert isinstance(told, AccessDenied)
    assert "has an event trigger on login that does not let master in" in str(told)


def test_a_timeout_that_is_there_before_us_is_told_by_its_name() -> None:
    """With the statement that takes it away."""
    told = str(meaning_of("25P04", DATABASE))

    assert "ALTER DATABASE shop RESET transaction_timeout" in told


def test_a_connection_is_verified_and_shows_no_password() -> None:
    """TLS with a verified name, always; and printing a database prints no password."""
    given = parameters(DATABASE)

    assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", "/ca.pem")
    assert given["password"] == "s3cr3t"
    assert "s3cr3t" not in repr(DATABASE)


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_what_the_driver_raises_is_translated_also_where_it_is_wrapped(*, is_wrapped: bool) -> None:
    """SQLAlchemy asks the server for its version by itself, where it may be lost, too."""
    lost = psycopg2.OperationalError("server closed the connection unexpectedly")
    raised = OperationalError("select pg_catalog.version()", {}, lost) if is_wrapped else lost

    with pytest.raises(NotReady, match=r"database shop at .* broke"), translating(DATABASE):
        raise raised


def test_what_is_not_the_drivers_stays_what_it_is() -> None:
    """A mistake of ours is none of the server's."""
    with pytest.raises(KeyError), translating(DATABASE):
        raise KeyError("ours")
