"""
The documents can be followed: every command in them that can run here is run, in their order.

What they name without a command, ``tests/house/test_documents.py`` compares with what exists.
"""

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

from infra import migrations
from infra.local import stack, workflow
from infra.local.local_aws import interpreter
from tests.e2e.account import ROOT, Account
from tests.equipment import documents
from tests.equipment.histories import OURS

BILLING = "billing"
PROMISE = '[[role]]\nname = "example_role"\nsince = "001"'


@dataclass(frozen=True)
class Run:
    """
    How a command of a document is run here.

    Attributes:
        shows: What its output must hold, a regular expression.
        with_: What stands in for the document's placeholders.
    """

    shows: str
    with_: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Not:
    """Why a command of a document is not run here."""

    because: str


ON_AWS = Not("needs an account of AWS")
IN_DOCKER = Not("needs Docker; tests/local/test_compose.py holds what needs none")
MEASURES = Not("takes minutes, and fails by itself where a limit is not kept")

# Every command of every document, in its order. Documents are followed one after the other.
COMMANDS: dict[str, dict[str, Run | Not]] = {
    "README.md": {
        "make run": Run(r"All of it was seen to happen, in \d+ s"),
        "make test": Not("this is what runs these tests"),
        "make package": Not(
            "needs Lambda's own Python 3.13; tests/deployment builds for the interpreter here"
        ),
        "make validate": Not("installs three more environments; .ci/run runs it"),
        "make deploy BUCKET=your-artifacts STACK=day2": ON_AWS,
        "aws ssm put-parameter --name /day2/<instance>/target-revision --type String "
        "--value <revision>": Run('"Version": 1', (("<instance>", BILLING), ("<revision>", "004"))),
        "aws rds add-tags-to-resource --resource-name <instance's ARN> "
        "--tags Key=day2,Value=enabled": Run(
            "^$", (("<instance's ARN>", f"arn:aws:rds:us-east-1:000000000000:db:{BILLING}"),)
        ),
        ".venvs/dev/bin/python -m infra.invoke --stack day2 "
        """--payload '{"instance": "<instance>"}'""": Run(
            r'(?s)"success": true.*"final_revision": "004"',
            (("<instance>", BILLING), ("invoke --stack day2", "invoke --yes --stack day2")),
        ),
        'eval "$(make -s env)"': Run("^$"),
        """make invoke PAYLOAD='{"instance": "orders", "action": "status"}'""": Run(
            "orders is at 004; the head of this build is 004; 0 pending"
        ),
        "make invoke EVENT=events/direct_plan.json": Run(r"Would apply 0 migration\(s\)"),
        "make plan INSTANCE=orders": Run(r"^-- Would apply 0 migration\(s\)"),
        ".venvs/dev/bin/python -m infra.invoke --stack day2 "
        """--payload '{"instance": "orders", "action": "plan"}'""": Run(
            r"Would apply 0 migration\(s\)"
        ),
        "make new-migrations DIR=../acme-migrations": Run("acme-migrations is made"),
        "cd ../acme-migrations": Run("^$"),
        "make test-lambda": Run(r'"final_revision": "001"'),
        # As a person reads what is wrong, and writes the promise that it names.
        "make test-migrations": Run(
            "it makes the role example_role, which promises.toml does not name",
            (("make test-migrations", "! make test-migrations"),),
        ),
        "make test-migrations GOLDEN=write": Run(
            "written: golden/catalog_",
            (("make test", f"echo '{PROMISE}' >> promises.toml && make test"),),
        ),
        'make new-migration NAME="Reporting role"': Run(
            "acme-migrations/versions/002_reporting_role.py",
            (('"Reporting role"', '"Reporting role" && cd - > /dev/null'),),
        ),
    },
    "CONTRIBUTING.md": {
        "make test": Not("this is what runs these tests"),
        "make lint": Not("the copy that is followed has no tests; .ci/run runs it"),
        ".venvs/dev/bin/python -m pytest -q tests/unit tests/house": Not("make test runs it"),
        "make test-postgres VERSION=16": Not("fetches a server; it runs the tests on one version"),
        "make test-terraform TERRAFORM_PLUGINS=folder": Not("needs Terraform and its provider"),
        "make chaos": MEASURES,
        "make bench": MEASURES,
        "make bench-sweep": MEASURES,
        "make up": Run("deployed"),
        'make up PARAMETERS="AllowRollback=true"': Run("deployed"),
        'eval "$(make -s env)"': Run("^$"),
        "make status": Run(r"orders +available"),
        "make down": Not("would stop the local AWS of the tests; tests/local does it"),
    },
    "alembic/README.md": {
        ".venvs/dev/bin/alembic history": Run("003 -> 004.*Audit logging"),
        ".venvs/dev/bin/alembic upgrade head --sql": Run("CREATE ROLE"),
        "DATABASE_URL=postgresql://… .venvs/dev/bin/alembic current": Run(
            "004", (("postgresql://…", '"$ORDERS_URL"'),)
        ),
    },
    "infra/ACCOUNTS.md": {
        "make package": Not("as in the README"),
        "aws s3 cp --recursive build/python3.13-arm64/upload s3://day2-artifacts-$REGION/": ON_AWS,
        "make deploy BUCKET=day2-artifacts-$REGION": ON_AWS,
        "aws cloudformation get-template --stack-name day2 --template-stage Processed "
        "--query TemplateBody --output json > day2-processed.json": Run("^$"),
        "aws s3 cp day2-processed.json s3://day2-artifacts-$REGION/": ON_AWS,
        # tests/operating/test_conformance.py holds what a StackSet takes.
        "aws cloudformation create-stack-set …": ON_AWS,
        "aws cloudformation create-stack-instances …": ON_AWS,
    },
    "infra/OPERATIONS.md": {
        ".venvs/dev/bin/python -m infra.redrive --stack day2 --list": Run(r"\d+ event\(s\) wait"),
        ".venvs/dev/bin/python -m infra.redrive --stack day2": Not(
            "would send again what other tests left; tests/operating/test_redrive.py does it"
        ),
        "make failures": Run(r"\d+ event\(s\) wait"),
        "make redrive": Not("as above"),
        ".venvs/dev/bin/python -m infra.orphans --stack day2": Run(r"\d+ left over"),
        ".venvs/dev/bin/python -m infra.orphans --stack day2 --delete": Not(
            "would delete what other tests need; tests/operating/test_orphans.py does it"
        ),
        "aws ec2 describe-security-groups …": ON_AWS,
        "aws ec2 revoke-security-group-ingress …": ON_AWS,
        "aws cloudformation delete-stack --stack-name day2": Not(
            "would end the stack of the tests"
        ),
    },
    "infra/local/README.md": {
        "docker compose up --build --detach --wait": IN_DOCKER,
        "docker compose exec local-aws make run": IN_DOCKER,
        'eval "$(docker compose exec -T local-aws make -s env)"': IN_DOCKER,
    },
}
# What is followed, in its order; a command stands here once for each time it is shown.
TOLD = [
    (command, run)
    for document in COMMANDS
    for command in documents.commands(document)
    if isinstance(run := COMMANDS[document].get(command), Run)
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
    # The documents tell of the examples, whatever is deployed from here.
    shutil.rmtree(copy / "alembic" / "versions")
    shutil.copytree(OURS.versions, copy / "alembic" / "versions")
    shutil.copy(OURS.promises, copy / "alembic")
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


@pytest.mark.parametrize("document", documents.names())
def test_every_command_has_an_entry(document: str) -> None:
    """A new command in a document is run, or somebody has said why not."""
    shown = list(dict.fromkeys(documents.commands(document)))
    entries = COMMANDS.get(document, {})

    assert len(shown) == len(entries), (shown, list(entries))
    for command, (entry, how) in zip(shown, entries.items(), strict=True):
        # A long one that is not run is named by its beginning.
        start = entry.removesuffix(" …") + " "
        is_named = isinstance(how, Not) and entry.endswith(" …") and command.startswith(start)
        assert command == entry or is_named


def test_the_documents_can_be_followed(account: Account, checkout: Path) -> None:
    """From the first command to the last, in one shell."""
    account.create(BILLING, tagged=False)
    account.has_become(BILLING, "available")

    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=checkout,
        env=environment(account),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    shown = [text.strip() for text in done.stdout.split("@@@\n")[1:]]
    assert len(shown) == len(TOLD)
    for (command, run), text in zip(TOLD, shown, strict=True):
        assert re.search(run.shows, text), f"{command}:\n{text}"
    assert account.result(BILLING, outcome="APPLIED")["final_revision"] == "004"


def test_help_lists_every_target() -> None:
    """With one line each."""
    files = [ROOT / "Makefile", *(ROOT / "infra").glob("*.mk")]
    targets = {
        name
        for file in files
        for name in re.findall(r"^([a-z][a-z-]*):(?!=)", file.read_text(), re.MULTILINE)
    }

    text = "".join(file.read_text() for file in files)
    given = set(re.findall(r"^GIVEN := (.*\\\n.*)$", text, re.MULTILINE)[0].split())
    for told, recipe in re.findall(r"^[a-z-]+:.*## (.*)\n((?:\t.*\n)+)", text, re.MULTILINE):
        taken = given & {*re.findall(r"\$\$?\(?([A-Z]+)", recipe)}
        assert taken <= {*re.findall(r"([A-Z]+)=", told)}, told

    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    alone = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)

    listed = re.findall(r"^  (\S+) +\S.*$", helped.stdout, re.MULTILINE)
    assert len(listed) == len(helped.stdout.splitlines())
    assert sorted(listed) == sorted(targets)
    assert alone.stdout == helped.stdout


def script() -> str:
    """Return a script that runs what is told, with a mark before the output of each command."""
    # The environments are there, since this runs in one of them. Release 1 of AWS's command line
    # does not heed AWS_ENDPOINT_URL for rds in us-east-1, and sends a payload as it is given.
    lines = [
        "set -e",
        f"""make() {{ command make 'needs=@:' 'DEV={sys.executable}' "$@"; }}""",
        """aws() {
            local words=()
            for word in "$@"; do
                case "$word" in --cli-binary-format|raw-in-base64-out) ;; *) words+=("$word");; esac
            done
            command aws --endpoint-url "$AWS_ENDPOINT_URL" "${words[@]}"
        }""",
    ]
    for name, run in TOLD:
        command = name
        for placeholder, value in run.with_:
            assert placeholder in command
            command = command.replace(placeholder, value)
        lines += ["echo @@@", command]
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
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MAKE") and name != migrations.VARIABLE
    }
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
