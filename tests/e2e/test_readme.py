"""README.md can be followed: every command in it that can run here is run, in its order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local import stack, workflow
from infra.local.local_aws import interpreter
from tests.e2e.account import ROOT, Account

BILLING = "billing"


@dataclass(frozen=True)
class Run:
    """
    How a command of the README is run here.

    Attributes:
        shows: What its output must hold, a regular expression.
        with_: What stands in for the README's placeholders.
    """

    shows: str
    with_: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Not:
    """Why a command of the README is not run here."""

    because: str


# Every command of the README, in its order.
COMMANDS: dict[str, Run | Not] = {
    "make run": Run(r"All of it was seen to happen, in \d+ s"),
    "make test": Not("this is what runs these tests"),
    "make package": Not(
        "needs Lambda's own Python 3.13; tests/deployment builds for the interpreter that is here"
    ),
    "make validate": Not("installs three more environments; .ci/run runs it"),
    "make deploy BUCKET=your-artifacts STACK=day2": Not("deploys to the real AWS"),
    "aws rds add-tags-to-resource --resource-name <instance's ARN> "
    "--tags Key=day2,Value=enabled": Run(
        "^$", (("<instance's ARN>", f"arn:aws:rds:us-east-1:000000000000:db:{BILLING}"),)
    ),
    "aws ssm put-parameter --name /day2/<instance>/target-revision --type String --value 004": Run(
        '"Version": 1', (("<instance>", BILLING),)
    ),
    'eval "$(make -s env)"': Run("^$"),
    """make invoke PAYLOAD='{"instance": "orders", "action": "status"}'""": Run(
        "orders is at 004; the head of this build is 004; 0 pending"
    ),
    "make invoke EVENT=events/direct_plan.json": Run(r"Would apply 0 migration\(s\)"),
    'make new-migration NAME="Reporting role"': Run("alembic/versions/005_reporting_role.py"),
    "make test-lambda-to TARGET=005": Run(r'"final_revision": "005"'),
    ".venvs/dev/bin/alembic history": Run("004 -> 005.*Reporting role"),
    ".venvs/dev/bin/alembic upgrade head --sql": Run("CREATE ROLE"),
    "DATABASE_URL=postgresql://… .venvs/dev/bin/alembic current": Run(
        "004", (("postgresql://…", '"$ORDERS_URL"'),)
    ),
}


def commands() -> list[str]:
    """Return every command that the README shows, in its order, without what it says of it."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [
        re.sub(r"\s+# .*", "", line.removeprefix("$ ")) for line in lines if line.startswith("$ ")
    ]


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Iterator[Path]:
    """
    Return a copy of this checkout, whose make uses the local AWS of the test run.

    What is followed there writes a revision and deploys it.
    """
    copy = tmp_path / "day2"
    away = shutil.ignore_patterns(".*cache", ".git", ".venvs", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=lambda folder, names: away(folder, names) | big(folder))
    (copy / ".venvs").symlink_to(ROOT / ".venvs")
    # The layer, which is built already.
    for file in (ROOT / "build" / "local").glob("*/layer.*"):
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    yield copy
    account.remove("orders", workflow.INSTANCE, BILLING)
    stack.deploy(account.aws)
    account.wait_until_awake()


def big(folder: str) -> set[str]:
    """Return what of *folder* is not worth a copy."""
    return {"build", "tests"} if Path(folder) == ROOT else set()


def test_every_command_has_an_entry() -> None:
    """A new command in the README is run, or somebody has said why not."""
    assert list(dict.fromkeys(commands())) == list(COMMANDS)


def test_readme_can_be_followed(account: Account, checkout: Path) -> None:
    """From its first command to its last, in one shell."""
    account.create(BILLING, tagged=False)
    account.has_become(BILLING, "available")
    told = [name for name in commands() if isinstance(COMMANDS[name], Run)]

    done = subprocess.run(
        ["bash", "-c", script(told)],
        cwd=checkout,
        env=environment(account),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    shown = dict(enumerate(done.stdout.split("@@@\n")[1:]))
    assert len(shown) == len(told)
    for number, name in enumerate(told):
        run = COMMANDS[name]
        assert isinstance(run, Run)
        assert re.search(run.shows, shown[number].strip()), f"{name}:\n{shown[number]}"
    again = [text for number, text in shown.items() if "test-lambda-to" in told[number]]
    assert "Successfully applied 5 migration(s)" in again[0]
    assert "No pending migrations - database is up to date!" in again[1]
    assert account.result(BILLING, outcome="APPLIED")["final_revision"] == "004"


def test_help_lists_every_target() -> None:
    """With one line each."""
    files = [ROOT / "Makefile", *(ROOT / "infra").glob("*.mk")]
    targets = {
        name
        for file in files
        for name in re.findall(r"^([a-z][a-z-]*):(?!=)", file.read_text(), re.MULTILINE)
    }

    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    alone = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = re.findall(r"^  (\S+) +\S.*$", helped.stdout, re.MULTILINE)
    assert len(listed) == len(helped.stdout.splitlines())
    assert sorted(listed) == sorted(targets)
    assert alone.stdout == helped.stdout


def script(told: list[str]) -> str:
    """Return a script that runs what is *told*, with a mark before the output of each command."""
    # The environments are there, since this runs in one of them. Release 1 of AWS's command line
    # does not heed AWS_ENDPOINT_URL for rds in us-east-1.
    lines = [
        "set -e",
        f"""make() {{ command make 'needs=@:' 'DEV={sys.executable}' "$@"; }}""",
        'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }',
    ]
    for name in told:
        run = COMMANDS[name]
        assert isinstance(run, Run)
        for placeholder, value in run.with_:
            assert placeholder in name
            name = name.replace(placeholder, value)  # noqa: PLW2901 - the command as run here
        lines += ["echo @@@", name]
        if name == "make run":
            lines.append(f'ORDERS_URL="$({sys.executable} -c "$PRINT_ORDERS_URL")"')
    return "\n".join(lines)


PRINT_ORDERS_URL = """
import boto3, json, urllib.parse
(found,) = boto3.client("rds").describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"]
secrets = boto3.client("secretsmanager")
secret = secrets.get_secret_value(SecretId=found["MasterUserSecret"]["SecretArn"])
password = urllib.parse.quote(json.loads(secret["SecretString"])["password"], safe="")
where = "{Address}:{Port}".format(**found["Endpoint"])
print(f"postgresql://postgres:{password}@{where}/orders")
"""


def environment(account: Account) -> dict[str, str]:
    """Return what a person's shell has, with the local AWS of the test run as that of make."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = os.pathsep.join([str(interpreter("localstack").parent), os.environ["PATH"]])
    return (
        kept
        | account.aws.environment()
        | {
            "PATH": path,
            "DAY2_STATE": str(account.aws.state.folder),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PRINT_ORDERS_URL": PRINT_ORDERS_URL,
        }
    )
