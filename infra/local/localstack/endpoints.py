"""The names of interface endpoints as CloudFormation tells them, which LocalStack does not."""

from __future__ import annotations

import functools
from typing import Any

from localstack.services.ec2.resource_providers.aws_ec2_vpcendpoint import EC2VPCEndpointProvider


def tell_their_names() -> None:
    """
    Let ``GetAtt DnsEntries`` be a list of ``zone:name``.

    CloudFormation Template Reference, "AWS::EC2::VPCEndpoint", return values. LocalStack gives the
    structures of EC2's API, which no template can take apart.
    """
    create = EC2VPCEndpointProvider.create

    @functools.wraps(create)
    def create_and_tell(self: Any, request: Any) -> Any:
        event = create(self, request)
        entries = event.resource_model.get("DnsEntries") or []
        event.resource_model["DnsEntries"] = [
            f"{one['HostedZoneId']}:{one['DnsName']}" if isinstance(one, dict) else one
            for one in entries
        ]
        return event

    EC2VPCEndpointProvider.create = create_and_tell
