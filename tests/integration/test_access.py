"""Getting in: which passwords work, whom we trust, and what a refusal says."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest

from core.budget import Budget
from core.errors import (
    AccessDenied,
    MigrationError,
    NotFound,
    NotReady,
    RunFailed,
    UntrustedServer,
)
from core.model import Action
from core.postgres.session import query
from infra.local.postgres import tls_front
from infra.local.postgres.certificates import Authority, Certificate
from infra.local.postgres.programs import Programs
from infra.local.postgres.server import Server
from infra.local.state import free_port, port_is_free
from tests.equipment.fakes import FakeCloud
from tests.equipment.site import DATABASE, INSTANCE, MASTER_SECRET, Site, make_empty


def at(site: Site, **address: object) -> Site:
    """Return *site* with another *address* of its instance."""
    site.cloud.known[INSTANCE] = site.cloud.known[INSTANCE]._replace(**address)  # type: ignore[arg-type]
    return site


@contextmanager
def front_of(server: Server, shown: Certificate, folder: Path) -> Iterator[int]:
    """Run a TLS front before *server* that shows the certificate *shown*; yield its port."""
    port = free_port()
    files = (folder / "shown.crt", folder / "shown.key")
    for file, content in zip(files, (shown.certificate, shown.key), strict=True):
        file.write_bytes(content)
    socket = server.folder / f".s.PGSQL.{server.port}"
    with subprocess.Popen(
        [sys.executable, tls_front.__file__, str(port), str(socket), *map(str, files)]
    ) as front:
        try:
            while port_is_free(port):
                assert front.poll() is None
            yield port
        finally:
            front.terminate()


def all_that_is_said(error: BaseException) -> str:
    """Return every text that a log may have of *error*: its chain, with each one's repr."""
    texts = traceback.format_exception(error)
    cause: BaseException | None = error
    while cause is not None:
        texts += [str(cause), repr(cause), repr(vars(cause))]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(texts)


@pytest.mark.parametrize(
    "password",
    [
        "p%20a%ss%(word)s",
        "user:pass@host:5432/db?sslmode=disable#end",
        'it\'s "quoted" \\ and\tspaced ',
        "пароль-密码-🔑",
        "x" * 128,
        "{braces} $dollars ${both}",
    ],
    ids=["percents", "url", "quotes", "unicode", "long", "templates"],
)
def test_master_password_may_hold_anything(site: Site, password: str) -> None:
    """A password is never part of a URL or of SQL, so no mark in it means anything."""
    make_empty(site.server, master="ops")
    site.server.set_password("ops", password)
    odd = Site(site.server, site.ca_file, master="ops")
    odd.cloud.secrets[MASTER_SECRET]["password"] = password

    result = odd.run(target="001")

    assert result.report.applied == ["001"]


def test_wrong_password_is_denied_and_never_shown(site: Site) -> None:
    """A refused password is named by its code; no text of the error chain has it."""
    site.cloud.secrets[MASTER_SECRET]["password"] = "guessed-wrong"

    with pytest.raises(AccessDenied) as caught:
        site.run()

    assert str(caught.value) == (
        f"database {DATABASE} at localhost:{site.server.port} refused the password of postgres"
        " (28P01): correct the master secret, or rotate it"
    )
    assert "guessed-wrong" not in all_that_is_said(caught.value)


def test_user_who_may_not_log_in_is_denied(site: Site) -> None:
    """A master that IAM owns cannot enter with a password, and the message says where to look."""
    make_empty(site.server, master="ops")
    site.query("GRANT rds_iam TO ops")
    denied = Site(site.server, site.ca_file, master="ops")

    with pytest.raises(AccessDenied, match=r"does not let ops log in \(28000\): .* rds_iam"):
        denied.run()


class SigningCloud(FakeCloud):
    """AWS with IAM authentication."""

    def auth_token(self, host: str, port: int, user: str) -> str:
        """Return a token."""
        return f"{host}:{port}/?Action=connect&DBUser={user}"


def test_master_who_takes_no_token_is_entered_by_his_secret(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """IAM is on for applications, and not granted to the master: tokens are only preferred."""
    instance = at(site, takes_tokens=True, master_username="postgres").cloud.known[INSTANCE]
    site.cloud = SigningCloud(site.cloud.known, secrets=site.cloud.secrets)
    settings = site.settings._replace(iam_authentication=True)

    report = site.run(settings=settings, target="001").report
    assert report.applied == ["001"]
    (warning,) = report.warnings
    assert "took no token from postgres and is entered by its master secret" in warning
    assert warning in caplog.text

    for tags in ({"day2": "enabled"}, {"day2:secret": "mistyped"}):
        site.cloud.known[INSTANCE] = instance._replace(tags=tags)
        with pytest.raises(
            AccessDenied, match=r"GRANT rds_iam TO postgres, or name its master sec"
        ):
            site.run(settings=settings)


def test_missing_database_is_not_found(site: Site) -> None:
    """A database that is not there is named, with the code of the server."""
    with pytest.raises(NotFound) as caught:
        at(site, db_name="nowhere").run()

    assert str(caught.value) == (
        f"database nowhere at localhost:{site.server.port} does not exist (3D000): "
        "create it, or correct what names it: the tag of the instance, or dbname in the master "
        "secret"
    )


def test_master_who_does_not_own_the_database_is_denied(site: Site) -> None:
    """Where we may not make our schema, the message says what would let us."""
    site.query(f"ALTER DATABASE {DATABASE} OWNER TO rdsadmin")

    with pytest.raises(AccessDenied, match=r"postgres lacks a privilege \(42501\)") as caught:
        site.run()

    assert str(caught.value).endswith(
        f"let it own the database, or GRANT CREATE ON DATABASE {DATABASE} TO postgres"
    )


def test_read_only_database_is_a_failure_that_touched_nothing(site: Site) -> None:
    """A replica, or a database made read-only, is told by its code."""
    site.query(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")

    with pytest.raises(RunFailed, match=r"is read-only \(25006\).*nothing was changed"):
        site.run()


def test_nobody_listening_is_not_ready(site: Site) -> None:
    """A server that is not up yet may be up later."""
    port = free_port()

    with pytest.raises(NotReady) as caught:
        at(site, port=port).run(budget=Budget.of(0.5))

    assert caught.value.outcome.retryable
    assert f"localhost:{port} refuses connections" in str(caught.value)


def refused(site: Site, **settings: object) -> str:
    """Return why *site* does not trust its server; no password may have been sent."""
    with pytest.raises(UntrustedServer) as caught:
        site.run(Action.STATUS, settings=site.settings._replace(**settings))  # type: ignore[arg-type]
    assert site.server.master_password not in all_that_is_said(caught.value)
    return str(caught.value)


def test_server_of_another_authority_is_not_trusted(site: Site, tmp_path: Path) -> None:
    """A certificate that no CA of ours signed is refused, even for the right name."""
    other = tmp_path / "other-ca.pem"
    other.write_bytes(Authority.create("another CA").pem)

    said = refused(site, ca_file=str(other))

    assert said == (
        f"the certificate of localhost:{site.server.port} is not signed by a CA in other-ca.pem: "
        "correct CaFile; no password was sent"
    )


def test_server_of_another_name_is_not_trusted(site: Site) -> None:
    """A certificate for another name than the one we asked for is refused."""
    said = refused(at(site, host="127.0.0.1"))

    assert said == (
        f"the certificate of 127.0.0.1:{site.server.port} is for another name than 127.0.0.1: "
        "use the instance's own endpoint; no password was sent"
    )


def test_server_with_an_expired_certificate_is_not_trusted(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    """A certificate that has run out is refused, and the message says what to renew."""
    expired = authority.issue(["localhost"], lifetime=timedelta(days=-1))

    with front_of(site.server, expired, tmp_path) as port:
        said = refused(at(site, port=port))

    assert said == (
        f"the certificate of localhost:{port} has expired: renew it "
        "(on RDS: rotate the server certificate); no password was sent"
    )


def test_server_without_tls_is_not_trusted(programs: Programs, ca_file: Path) -> None:
    """A server that offers no TLS gets no password, even if it would take it in the clear."""
    server = Server.create(
        certificate=None, master_password="in the clear", database=DATABASE, programs=programs
    )
    try:
        said = refused(Site(server, ca_file))
    finally:
        server.remove()

    assert said == (f"localhost:{server.port} offers no TLS: turn it on; no password was sent")


def test_missing_ca_file_fails_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    """A CA file that is not there is our own fault, not the server's."""
    settings = site.settings._replace(ca_file=str(tmp_path / "missing.pem"))

    with pytest.raises(RunFailed, match=r"missing\.pem does not exist: correct .*CaFile"):
        site.run(settings=settings)


def test_server_itself_refuses_plain_connections(site: Site) -> None:
    """The local servers are as strict as RDS with ``rds.force_ssl``: no TLS, no entry."""
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(
            host="localhost",
            port=site.server.port,
            dbname=DATABASE,
            user="postgres",
            password=site.server.master_password,
            sslmode="disable",
        )


def test_sessions_are_encrypted_and_called_day2(site: Site) -> None:
    """An operator finds our sessions by name, with the settings that let a dead one go."""
    with closing(site.connect_as_runner()) as session:
        settings = dict(
            query(
                session,
                "SELECT name, setting FROM pg_settings WHERE name IN ('application_name',"
                " 'client_connection_check_interval', 'idle_in_transaction_session_timeout',"
                " 'lock_timeout')",
            )
        )
        is_encrypted = session.info.ssl_in_use

    assert is_encrypted
    assert settings == {
        "application_name": "day2",
        "client_connection_check_interval": "1000",
        "idle_in_transaction_session_timeout": "300000",
        "lock_timeout": "500",
    }


def test_every_refusal_has_a_report(site: Site) -> None:
    """Whoever reports a refusal knows which instance and database it was about."""
    site.cloud.secrets[MASTER_SECRET]["password"] = "guessed-wrong"

    with pytest.raises(MigrationError) as caught:
        site.run()

    assert caught.value.report is not None
    assert (caught.value.report.instance, caught.value.report.database) == (INSTANCE, DATABASE)
