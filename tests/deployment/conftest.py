"""What the tests of the deployment share: the template, and the package for this interpreter."""

from __future__ import annotations

from typing import Any

import pytest

from infra import template as cloudformation
from infra.package import OUTPUT, Package, build

KEY = "arn:aws:kms:us-east-1:000000000000:key/k"

EVERYTHING = {
    "MigrationsKey": "day2/migrations-0123456789abcdef.zip",
    "CodeSigningConfigArn": "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0",
    "AlarmTopic": "arn:aws:sns:us-east-1:000000000000:alarms",
    "CreateEndpoints": "true",
    "IamAuthentication": "true",
    "KmsKeyArn": KEY,
    "MasterSecretArns": "arn:aws:secretsmanager:us-east-1:000000000000:secret:orders-*",
    "MasterSecretKmsKeyArns": KEY,
    "PermissionsBoundaryArn": "arn:aws:iam::000000000000:policy/boundary",
    "ReservedConcurrency": "5",
    "ResultTopic": "arn:aws:sns:us-east-1:000000000000:results",
    "ResultTopicKmsKeyArn": KEY,
    "SecretKmsKeyArn": KEY,
    "SubnetIds": "subnet-1,subnet-2",
    "Tracing": "true",
    "VpcId": "vpc-1",
}


@pytest.fixture(scope="session")
def resources() -> dict[str, Any]:
    """Return the resources of the template as it is deployed by default."""
    return cloudformation.resolve()


@pytest.fixture(scope="session")
def all_resources() -> dict[str, Any]:
    """Return the resources with everything switched on that a parameter can switch on."""
    return cloudformation.resolve(EVERYTHING)


@pytest.fixture(scope="session")
def package() -> Package:
    """Build the package for the running interpreter, the one that `make up` deploys."""
    return build(OUTPUT / "local")
