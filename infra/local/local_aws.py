"""The local AWS as a whole: LocalStack started and stopped, and clients for it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.commands import StoppedError
from infra.environments import ENVIRONMENTS
from infra.local import processes
from infra.local.postgres.programs import find_programs
from infra.local.postgres.server import remove_servers
from infra.local.state import CHECKOUT, State, free_port, port_is_free

REGION = "us-east-1"

# Where AWS's tools and LocalStack's own look when nobody says otherwise.
USUAL_PORT = 4566
# Of a machine that does ten things at once: whoever ended or refuses is known of at once.
START_SECONDS = 120
ANSWER_SECONDS = 30

PLUGINS = Path(__file__).parent / "localstack" / "plugins"

OUTDATED = (
    "the local AWS was started before infra/local or its libraries changed, and runs as it was: "
    "make down, then make up, starts it anew, without its instances"
)


class LocalAwsError(StoppedError):
    """The local AWS did not do what it was asked; the message says what to look at."""


def interpreter(environment: str) -> Path:
    """Return the Python of one of the virtual environments that make keeps."""
    return ENVIRONMENTS / environment / "bin" / "python"


@dataclass(frozen=True)
class LocalAws:
    """A LocalStack of one state folder."""

    state: State

    @property
    def port(self) -> int | None:
        """The port it listens on; None when it is not up."""
        pid = processes.read_pid(self.state.pids / "localstack")
        if pid is None or not processes.is_running(pid, self.state.folder):
            return None
        return processes.read_pid(self.state.port_file)

    @property
    def endpoint_url(self) -> str:
        """
        The URL for AWS clients.

        Raises:
            LocalAwsError: It is not up.
        """
        if self.port is None:
            raise LocalAwsError("the local AWS is not up: make up")
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the variables that any AWS client, and libpq, need to use it."""
        endpoint_url, keys = self.endpoint_url, self.state.keys()
        return {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.state.ca_file),
        }

    def client(self, service: str) -> Any:
        """Return a boto3 client of *service*."""
        # Imported here: boto3 takes longer than all else that `make down` does.
        import boto3
        from botocore.config import Config

        endpoint_url, keys = self.endpoint_url, self.state.keys()
        return boto3.client(
            service,
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            # An invoke that is tried again behind the caller's back migrates twice.
            config=Config(retries={"total_max_attempts": 1}, read_timeout=900),
        )

    def up(self, *, port: int | None = None) -> bool:
        """
        Start LocalStack unless it is up; return whether it had to be started.

        Raises:
            LocalAwsError: It ended or did not answer in time.
        """
        with self.state.locked():
            if self.port is not None:
                self.check()
                if self.is_outdated:
                    print(OUTDATED, file=sys.stderr)
                return False
            self._sweep()
            self.state.make()
            # Imported here: who makes none needs no cryptography.
            from infra.local.postgres import certificates

            certificates.ensure(self.state.tls)
            port = port or (USUAL_PORT if port_is_free(USUAL_PORT) else free_port())
            self.state.port_file.write_text(str(port))
            self.state.code_file.write_text(_code())
            self.state.keys()
            self.state.log.unlink(missing_ok=True)
            self.state.log.touch(mode=0o600)
            command = [str(interpreter("localstack")), "-P", "-m", "infra.local.localstack.launch"]
            process = processes.start(
                [*command, self.state.folder],
                log=self.state.log,
                environment=self._localstack_environment(port),
            )
            (self.state.pids / "localstack").write_text(str(process.pid))
            try:
                self._wait_until_it_answers(process, f"http://127.0.0.1:{port}/_localstack/health")
            except BaseException:
                # Half up, it would be taken for one that hangs.
                self._sweep()
                raise
        return True

    def check(self) -> None:
        """
        Ask whether it is up and answers, at once.

        Raises:
            LocalAwsError: It is not up, or does not answer: it may still start, or hang.
        """
        url = self.endpoint_url
        if not _answers(f"{url}/_localstack/health"):
            raise LocalAwsError(
                f"the local AWS at {url} does not answer, see {self.state.log}: make down, make up"
            )

    @property
    def is_outdated(self) -> bool:
        """Tell whether it runs other code than this checkout has by now, such as after a pull."""
        file = self.state.code_file
        return not file.exists() or file.read_text() != _code()

    def down(self) -> None:
        """Stop LocalStack and all that it started, however it ended before."""
        with self.state.locked():
            self._sweep()

    def clean(self) -> None:
        """Stop it and remove its state."""
        self.down()
        self.state.remove()

    @classmethod
    def clean_abandoned(cls) -> None:
        """Clean what killed test runs of this checkout have left."""
        for state in State.abandoned():
            cls(state).clean()

    def _sweep(self) -> None:
        """
        Kill LocalStack and what it started, and remove what it knew of.

        It keeps nothing that a gentler end would save, and so a crash needs no way of its own.
        """
        # LocalStack first, or it would replace what it misses.
        for pid_file in (self.state.pids / "localstack", *self.state.pids.glob("lambda-*")):
            processes.stop_recorded(pid_file, self.state.folder, first=signal.SIGKILL)
        remove_servers(self.state.servers)
        for folder in ("fs", "tmp", "calls"):
            subprocess.run(["rm", "-rf", str(self.state.folder / folder)], check=True)

    def _wait_until_it_answers(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if _answers(url):
                return
            time.sleep(0.05)
        raise LocalAwsError(f"LocalStack did not start, see {self.state.log}")

    def _localstack_environment(self, port: int) -> dict[str, str]:
        """Return LocalStack's whole environment, each variable with its reason."""
        temporary = self.state.folder / "tmp"
        # Functions find their code in it, and nobody lists what is there.
        temporary.mkdir(mode=0o711, exist_ok=True)
        address = f"127.0.0.1:{port}"
        return _without_surprises(os.environ) | {
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(PLUGINS)]),
            # It takes many sandboxes for a container and would write to /var/lib/localstack.
            "OVERRIDE_IN_DOCKER": "0",
            "FILESYSTEM_ROOT": str(self.state.folder / "fs"),
            "TMPDIR": str(temporary),
            # The default server listens on every address, whatever GATEWAY_LISTEN says.
            "GATEWAY_SERVER": "hypercorn",
            "GATEWAY_LISTEN": address,
            # As root it would answer DNS on port 53.
            "DNS_ADDRESS": "0",
            # Otherwise URLs of queues name a host that only public DNS knows.
            "LOCALSTACK_HOST": address,
            "SQS_ENDPOINT_STRATEGY": "path",
            "LAMBDA_RUNTIME_EXECUTOR": "process",
            # Ours, since LocalStack's keeps objects in one folder of /tmp, whoever runs it.
            "PROVIDER_OVERRIDE_S3": "day2",
            # Seconds before an asynchronous invoke is tried again; AWS's 60 is too long.
            "LAMBDA_RETRY_BASE_DELAY": "0",
            # Nothing is fetched and nothing reported.
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            # For our plugins.
            "DAY2_LOCAL_STATE": str(self.state.folder),
            "DAY2_LOCAL_CACHE": str(_cache()),
            "DAY2_STATE": str(State.of_checkout().folder),
            "DAY2_LAMBDA_PYTHON": str(interpreter("lambda")),
            "PG_BIN": str(find_programs().folder),
        }


def _answers(url: str) -> bool:
    """Tell whether somebody answers at *url*."""
    # Without a proxy: one from the shell would be asked for 127.0.0.1 too.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS):
            return True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _cache() -> Path:
    """Return the folder of what LocalStack finds out about itself, one for each set of pins."""
    folder = State.of_checkout().folder / f"cache-{_digest(PLUGINS.glob('*/*'))[:8]}"
    folder.mkdir(exist_ok=True)
    return folder


def _code() -> str:
    """Return what LocalStack is started from, as a digest: its pins, and our code in it."""
    here = Path(__file__).parent
    folders = (here / "localstack", here / "postgres")
    ours = [file for folder in folders for file in folder.rglob("*.py")]
    return _digest([here / "processes.py", here / "state.py", *ours])


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in (interpreter("localstack").parents[1] / "made-from", *sorted(files)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _without_surprises(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop what would change LocalStack, its AWS clients or its PostgreSQL connections."""
    prefixes = ("AWS_", "PG", "PYTHON", "LAMBDA_", "LOCALSTACK_", "PROVIDER_OVERRIDE_")
    dropped = {"DEBUG", "SERVICES", "PERSISTENCE", "EAGER_SERVICE_LOADING"}
    # It decides nothing but where byte code is kept.
    kept = {"PYTHONPYCACHEPREFIX"}
    return {
        name: value
        for name, value in environment.items()
        if name in kept or (not name.startswith(prefixes) and name not in dropped)
    }


if sys.platform == "win32":
    raise ImportError("the local AWS needs Linux or macOS")
