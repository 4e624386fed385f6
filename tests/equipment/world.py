"""One instance on a real server, its AWS, and the function: what every fault is tried on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg2

from core.postgres.lock import LOCK_KEY
from core.postgres.session import query
from infra.local.postgres.certificates import Authority
from infra.local.postgres.programs import Programs, find_programs
from infra.local.postgres.server import Server
from infra.local.state import State
from tests.equipment.container import Answer, Call, Container
from tests.equipment.histories import OURS, copy_of_ours
from tests.equipment.site import make_empty
from tests.equipment.small_aws import ACCOUNT, SmallAws, arn
from tests.equipment.waiting import PATIENCE_SECONDS, wait_for

ROOT = Path(__file__).resolve().parents[2]
INSTANCE = "orders"
DATABASE = "shop"
MASTER_SECRET = "orders-master"
LOGINS = ("app_user", "analytics_user", "backup_user")
HEAD = "004"
QUEUE = arn("sqs", "day2-waiting")

# Short waits: what is proven is that they end, not how long they are by default.
VARIABLES = {
    "DAY2_LOCK_WAIT_SECONDS": "5",
    "DAY2_MARGIN_SECONDS": "3",
    "DAY2_MINIMUM_SLICE_SECONDS": "1",
    "DAY2_RELATION_LOCK_TIMEOUT_MS": "300",
    "DAY2_WAITING_QUEUE_ARN": QUEUE,
    "DAY2_WAITING_QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/day2-waiting",
    "POWERTOOLS_SERVICE_NAME": "day2",
    "POWERTOOLS_METRICS_NAMESPACE": "day2",
}

_LOCK_HOLDERS = f"""
SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
  AND classid = 0 AND objid = {LOCK_KEY}
"""

# Everything that a run may leave behind but for passwords: who there is, who owns what,
# and who may do what.
_CATALOGUE = """
SELECT concat_ws(' ', 'role', rolname, rolcanlogin, split_part(rolpassword, '$', 1))
  FROM pg_authid WHERE oid >= 16384
UNION ALL SELECT concat_ws(' ', 'member', member::regrole, 'of', roleid::regrole)
  FROM pg_auth_members WHERE member >= 16384
UNION ALL SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl)
  FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT concat_ws(' ', 'relation', oid::regclass, relkind, relowner::regrole, relacl)
  FROM pg_class WHERE oid >= 16384 AND relkind <> 't' AND relnamespace <> 99
UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure, proowner::regrole, proacl)
  FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT concat_ws(' ', 'default', defaclrole::regrole, defaclnamespace::regnamespace,
  defaclobjtype, defaclacl) FROM pg_default_acl
UNION ALL SELECT concat_ws(' ', 'setting', setrole::regrole, setconfig) FROM pg_db_role_setting
ORDER BY 1
"""


@dataclass
class World:
    """
    The instance ``orders`` with its database ``shop``, as RDS would show it.

    Attributes:
        port: Where the instance's endpoint is: the server's own, or a proxy's.
    """

    server: Server
    ca_file: Path
    aws: SmallAws
    container: Container
    folder: Path
    port: int = 0
    _golden: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def made(
        cls, programs: Programs | None = None, settings: Mapping[str, str] | None = None
    ) -> Iterator[Self]:
        """Make a server, an AWS and a container; remove them in the end."""
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="day2-chaos-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            authority = Authority.create()
            (folder / "ca.pem").write_bytes(authority.pem)
            # Not among the servers of a local AWS, which removes what it finds there.
            state = State.of_process("chaos")
            state.make()
            server = Server.create(
                Path(tempfile.mkdtemp(prefix="s", dir=state.servers)),
                certificate=authority.issue(["localhost"]).write(folder),
                master_password="master's p%ss@word:/?#",
                programs=programs or find_programs(),
                settings={"autovacuum": "off", "log_statement": "ddl"} | dict(settings or {}),
            )
            stack.callback(_remove_if_unused, state)
            stack.callback(server.remove)
            yield stack.enter_context(cls.on(server, folder / "ca.pem", folder))

    @classmethod
    @contextmanager
    def on(cls, server: Server, ca_file: Path, folder: Path) -> Iterator[Self]:
        """Make an AWS and a container beside *server*; histories are written into *folder*."""
        with SmallAws() as aws:
            variables = VARIABLES | aws.variables | {"DAY2_CA_FILE": str(ca_file)}
            with Container(variables) as container:
                yield cls(server, ca_file, aws, container, folder, server.port)

    def reset(self) -> None:
        """Make the database empty, with a new instance of the same name before it."""
        self.container.end_all()
        make_empty(self.server)
        self.aws.forget()
        self.port = self.server.port
        self.aws.keep(
            MASTER_SECRET,
            {"username": self.server.master, "password": self.server.master_password},
        )
        self.declare_instance()

    def declare_instance(self, **changes: Any) -> None:
        """Have AWS tell of the instance, with *changes* to what ``DescribeDBInstances`` says."""
        self.aws.instances[INSTANCE] = {
            "DBInstanceIdentifier": INSTANCE,
            "DBInstanceArn": arn("rds", f"db:{INSTANCE}"),
            "DbiResourceId": "db-ORDERS",
            "Engine": "postgres",
            "DBInstanceStatus": "available",
            "Endpoint": {"Address": "localhost", "Port": self.port},
            "DBName": DATABASE,
            "MasterUsername": self.server.master,
            "InstanceCreateTime": "2024-01-01T00:00:00Z",
            "TagList": [
                {"Key": "day2", "Value": "enabled"},
                {"Key": "day2:secret", "Value": MASTER_SECRET},
            ],
        } | changes

    def declare_cluster(self, **changes: Any) -> str:
        """
        Have AWS tell of a cluster of that name in place of the instance, with *changes*.

        Its one member, ``orders-1``, writes.

        Returns:
            The cluster's ARN.
        """
        del self.aws.instances[INSTANCE]
        self.aws.instances["orders-1"] = {
            "DBInstanceIdentifier": "orders-1",
            "DBClusterIdentifier": INSTANCE,
            "Engine": "aurora-postgresql",
            "DBInstanceStatus": "available",
        }
        self.aws.clusters[INSTANCE] = {
            "DBClusterIdentifier": INSTANCE,
            "DBClusterArn": arn("rds", f"cluster:{INSTANCE}"),
            "DbClusterResourceId": "cluster-ORDERS",
            "Engine": "aurora-postgresql",
            "Status": "available",
            "Endpoint": "localhost",
            "Port": self.port,
            "DatabaseName": DATABASE,
            "MasterUsername": self.server.master,
            "ClusterCreateTime": "2024-01-01T00:00:00Z",
            "DBClusterMembers": [
                {"DBInstanceIdentifier": "orders-1", "IsClusterWriter": "true"},
            ],
            "TagList": [
                {"Key": "day2", "Value": "enabled"},
                {"Key": "day2:secret", "Value": MASTER_SECRET},
            ],
        } | changes
        return str(self.aws.clusters[INSTANCE]["DBClusterArn"])

    def kill_server(self) -> None:
        """Kill the server as a crash of its machine would."""
        pid = self.server.pid
        self.server.kill()
        # Its lock file holds as long as a zombie does, and we are the parent.
        if pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)

    # The function

    def begin(self, event: object = None, **options: Any) -> Call:
        """Begin a call; by default a direct request to migrate to head."""
        return self.container.begin(event or self.request(), **options)

    def call(self, event: object = None, **options: Any) -> Answer:
        """Carry out a whole call; by default a direct request to migrate to head."""
        return self.begin(event, **options).answer()

    def migrate(self, target: str = "head", **options: Any) -> Answer:
        """Migrate to *target*, by a direct request."""
        return self.call(self.request(target=target), **options)

    def request(self, action: str = "migrate", target: str | None = "head", **more: Any) -> Any:
        """Return a direct request for the instance."""
        wanted = {} if target is None else {"target_revision": target}
        return {"instance": INSTANCE, "action": action} | wanted | more

    def declare(self, target: str, *, instance: str = INSTANCE, kind: str = "String") -> None:
        """Write the target parameter of *instance*."""
        self.aws.parameters[f"/day2/{instance}/target-revision"] = (kind, target)

    def come_again(self) -> Any:
        """Take the one message that was put off, and return it as Lambda hands it over."""
        (sent,) = self.aws.put_off
        self.aws.put_off.clear()
        attributes = {
            name: {"stringValue": one["StringValue"], "dataType": one["DataType"]}
            for name, one in sent["MessageAttributes"].items()
        }
        message = {"body": sent["MessageBody"], "messageAttributes": attributes}
        return {"Records": [message | {"eventSource": "aws:sqs", "eventSourceARN": QUEUE}]}

    # The database

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run *statement* as the superuser, on a connection of its own."""
        with closing(self.server.superuser(DATABASE)) as session:
            return query(session, statement, values)

    def login_secret(self, login: str) -> dict[str, Any]:
        """Return the fields of a login's secret."""
        name = MASTER_SECRET if login == self.server.master else f"day2/{INSTANCE}/{login}"
        fields: dict[str, Any] = json.loads(self.aws.secrets[name].text())
        return fields

    def login(self, user: str) -> Any:
        """Connect as *user* with the password in its secret, over verified TLS."""
        here = {"host": "localhost", "port": self.server.port, "dbname": DATABASE}
        return self._connect(self.login_secret(user) | here)

    def who_logs_in(self, login: str, password: str | None = None) -> str:
        """Log in where and as the secret of *login* says, and return who that is."""
        fields = self.login_secret(login)
        with closing(self._connect(fields | ({"password": password} if password else {}))) as one:
            return str(query(one, "SELECT session_user")[0][0])

    def _connect(self, fields: Mapping[str, Any]) -> Any:
        session = psycopg2.connect(
            host=fields["host"],
            port=fields["port"],
            dbname=fields["dbname"],
            user=fields["username"],
            password=fields["password"],
            sslmode="verify-full",
            sslrootcert=str(self.ca_file),
        )
        session.autocommit = True
        return session

    def current(self) -> str | None:
        """Return the revision that the database says it is at."""
        if self.query("SELECT to_regclass('day2.alembic_version')") == [(None,)]:
            return None
        found = self.query("SELECT version_num FROM day2.alembic_version")
        return found[0][0] if found else None

    def history(self) -> list[tuple[str, str]]:
        """Return direction and revision of each history row, oldest first."""
        if self.query("SELECT to_regclass('day2.history')") == [(None,)]:
            return []
        return self.query("SELECT direction, revision FROM day2.history ORDER BY id")

    def catalogue(self) -> list[str]:
        """Return all that the database has but for its rows, a line a thing."""
        return [line for (line,) in self.query(_CATALOGUE)]

    def lock_holders(self) -> list[int]:
        """Return the server processes that hold the runner's lock."""
        return [pid for (pid,) in self.query(_LOCK_HOLDERS)]

    def wait_for_lock(self, *, held: bool, timeout_seconds: float = PATIENCE_SECONDS) -> float:
        """
        Wait until the runner's lock is *held*, or free; return the seconds that took.

        A run that has ended, or was killed, holds it until its server process has seen that.

        Raises:
            AssertionError: It was not, in time.
        """
        begun = time.monotonic()
        with closing(self.server.superuser(DATABASE)) as session:
            wait_for(
                lambda: bool(query(session, _LOCK_HOLDERS)) is held,
                f"lock held={held}",
                seconds=timeout_seconds,
            )
        return time.monotonic() - begun

    # What must hold after every run, whatever happened

    def faults_found(self, expected: Sequence[str] = ("001", "002", "003", "004")) -> list[str]:
        """
        Return what is wrong with a database that is to have *expected*, and nothing else.

        Every revision is applied once, the catalogue is that of an undisturbed run, every
        login enters with the password of its secret, and nobody holds the lock.
        """
        found = []
        rows = [revision for direction, revision in self.history() if direction == "upgrade"]
        if rows != list(expected):
            found.append(f"history {rows}")
        if self.current() != (expected[-1] if expected else None):
            found.append(f"at {self.current()}")
        if expected:
            golden = self._golden.get(tuple(expected), [])
            found += [f"catalogue {line}" for line in set(golden) ^ set(self.catalogue()) if golden]
        for login, since in zip(LOGINS, ("001", "002", "003"), strict=True):
            if since in expected:
                try:
                    self.login(login).close()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                    found.append(f"{login} cannot log in: {error}")
        unset = [name for name, one in self.aws.secrets.items() if "day2:unset" in one.tags]
        if unset:
            found.append(f"unset {unset}")
        try:
            self.wait_for_lock(held=False)
        except AssertionError as error:
            found.append(str(error))
        return found

    def learn_golden(self) -> None:
        """Remember what an undisturbed run to head leaves behind."""
        self.reset()
        answer = self.call()
        assert answer.outcome == "APPLIED", answer
        self._golden[("001", "002", "003", "004")] = self.catalogue()
        assert self.faults_found() == []


def make_history(folder: Path, revisions: Mapping[str, str], *, after: str | None = None) -> Path:
    """
    Write a history of our own into *folder* and return its ``alembic.ini``.

    Each revision is an identifier and the body of its module, which has ``op`` and
    ``operations``; a body without ``def upgrade`` is that of the function. With *after*,
    those of the tests' own history up to there come first.
    """
    ini = copy_of_ours(folder)
    down = None
    for file in sorted(OURS.versions.glob("*.py")):
        if after is not None and file.name[:3] <= after:
            shutil.copy(file, folder / "alembic" / "versions")
            down = file.name[:3]
    for identifier, body in revisions.items():
        write_revision(folder, identifier, down, body)
        down = identifier
    return ini


def write_revision(folder: Path, identifier: str, down: str | None, body: str) -> Path:
    """Write one revision into the history in *folder*."""
    if "def upgrade" not in body:
        inner = "\n".join(f"    {line}" for line in body.strip().splitlines())
        body = f"def upgrade() -> None:\n{inner}\n\n\ndef downgrade() -> None:\n    pass\n"
    file = folder / "alembic" / "versions" / f"{identifier}_test.py"
    file.write_text(
        f'"""Revision {identifier}"""\n\nimport time\n\nfrom alembic import op\n\n'
        "from core import operations\n\n"
        f"revision = {identifier!r}\ndown_revision = {down!r}\n\n\n{body}"
    )
    return file


def event(name: str) -> Any:
    """Return the sample event *name* of ``events/``."""
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def is_root() -> bool:
    """Say whether we are the superuser of this machine."""
    return os.geteuid() == 0


def _remove_if_unused(state: State) -> None:
    """Remove the folder of our servers, unless there is another one's."""
    with suppress(OSError):
        state.servers.rmdir()
        state.remove()
