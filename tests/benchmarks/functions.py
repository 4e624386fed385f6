"""The functions that are invoked: ours from its package, and the usual one."""

from __future__ import annotations

import compileall
import contextlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from infra import package
from infra.local import workflow
from infra.local.local_aws import LocalAws, interpreter
from tests.benchmarks import histories
from tests.benchmarks.invocation import Function

INSTANCE = "benchmark"
MASTER = "postgres"
HERE = Path(__file__).parent
# What Powertools' tracer needs beside the layer's libraries.
TRACER = ("aws-xray-sdk==2.15.0", "wrapt==2.5.2")


@dataclass(frozen=True)
class Trees:
    """Folders as Lambda would have them: our package's function and layer, and variants."""

    folder: Path
    function: Path
    layer: Path

    @classmethod
    def build(cls, folder: Path) -> Trees:
        """Build our package, whose variants go into *folder*."""
        built = package.build()
        # AWS's runtime has byte code of its boto3.
        runtime = interpreter("lambda")
        compile_all = [runtime, "-m", "compileall", "-qq", "-j2", runtime.parents[1] / "lib"]
        subprocess.run(compile_all, check=False)
        return cls(folder, built.function.parent / "function", built.layer.parent / "layer/python")

    def ours(self, count: int) -> Path:
        """Return our function with *count* trivial revisions in place of its own."""
        tree = self._copy(self.function, f"ours-{count}")
        shutil.rmtree(tree / "alembic" / "versions")
        (tree / "alembic" / "promises.toml").unlink(missing_ok=True)
        for stale in tree.rglob("__pycache__"):
            shutil.rmtree(stale)
        histories.write_alembic(tree / "alembic" / "versions", count)
        package.complete_function(tree, package.here())
        return tree

    def usual(self, count: int) -> Path:
        """Return the usual function with the same revisions, and byte code."""
        tree = self.folder / f"usual-{count}"
        shutil.rmtree(tree, ignore_errors=True)
        histories.write_usual_alembic(tree, count, "")
        (tree / "alembic" / "env.py").write_text(histories.ENV)
        shutil.copyfile(HERE / "usual_handler.py", tree / "usual_handler.py")
        compileall.compile_dir(tree, quiet=2)
        return tree

    def usual_layer(self) -> Path:
        """Return our layer with what the tracer needs, and byte code."""
        tree = self._copy(self.layer, "usual-layer")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "--no-deps", "--target", tree, *TRACER], check=True, capture_output=True
        )
        return tree

    def freshly_compiled(self, tree: Path) -> Path:
        """Return a copy of *tree* whose byte code is what the interpreter itself would write."""
        return self._recompiled(tree, "fresh", has_byte_code=True)

    def without_byte_code(self, tree: Path) -> Path:
        """Return a copy of *tree* that ships sources only."""
        return self._recompiled(tree, "bare", has_byte_code=False)

    def _recompiled(self, tree: Path, name: str, *, has_byte_code: bool) -> Path:
        copy = self._copy(tree, f"{tree.parent.name}-{tree.name}-{name}")
        for stale in [*copy.rglob("__pycache__")]:
            shutil.rmtree(stale)
        if has_byte_code:
            compileall.compile_dir(copy, quiet=2)
        return copy

    def _copy(self, tree: Path, name: str) -> Path:
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tree, copy)
        return copy


@dataclass(frozen=True)
class Account:
    """The local AWS with one instance, and a secret for each database on it."""

    aws: LocalAws
    instance: dict[str, Any]
    password: str

    @classmethod
    def prepare(cls, aws: LocalAws) -> Account:
        """Make the instance."""
        password = "benchmark-password"
        aws.client("rds").create_db_instance(
            DBInstanceIdentifier=INSTANCE,
            Engine="postgres",
            DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20,
            MasterUsername=MASTER,
            MasterUserPassword=password,
        )
        account = cls(aws, workflow.wait_for_instance(aws, INSTANCE), password)
        for owner in ("ours", "usual"):
            account.make_secret(owner)
        aws.client("ssm").put_parameter(Name="/usual/target-revision", Value="head", Type="String")
        return account

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a function in this account."""
        return {
            **self.aws.environment(),
            "AWS_EC2_METADATA_DISABLED": "true",
            "CA_FILE": str(self.aws.state.ca_file),
            "DAY2_CA_FILE": str(self.aws.state.ca_file),
            "POWERTOOLS_SERVICE_NAME": "day2",
        }

    def ours(self, code: Path, layer: Path) -> Function:
        """Return our function in this account."""
        return Function(code, layer, "handlers.dispatcher.handler", self.environment)

    def usual(self, code: Path, layer: Path) -> Function:
        """Return the usual function in this account."""
        return Function(code, layer, "usual_handler.handler", self.environment)

    def make_database(self, name: str) -> None:
        """Make the database *name* anew, empty."""
        endpoint = self.instance["Endpoint"]
        connection = psycopg2.connect(
            host=endpoint["Address"],
            port=endpoint["Port"],
            user=MASTER,
            password=self.password,
            dbname="postgres",
            sslmode="verify-full",
            sslrootcert=str(self.aws.state.ca_file),
        )
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            cursor.execute(f"CREATE DATABASE {name}")

    def make_secret(self, name: str) -> None:
        """Make the secret of the database *name*."""
        fields = {
            "username": MASTER,
            "password": self.password,
            "dbname": name,
            "dbInstanceIdentifier": INSTANCE,
        }
        self.aws.client("secretsmanager").create_secret(
            Name=f"benchmark/{name}", SecretString=json.dumps(fields)
        )
