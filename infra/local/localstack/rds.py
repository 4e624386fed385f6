"""The RDS API, which LocalStack's open edition lacks: moto answers every operation of it."""

from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.spec import load_service
from localstack.services.moto import call_moto
from localstack.services.plugins import Service, aws_provider

from infra.local.localstack import clusters, deployments, instances


class RdsProvider:
    """Names the service for LocalStack."""

    service = "rds"
    version = "2014-10-31"


@aws_provider(api="rds")
def rds() -> Service:
    """Return the service, once its instances have servers behind them."""
    instances.put_servers_behind_moto()
    clusters.put_servers_behind_clusters()
    deployments.put_servers_behind_deployments()

    def dispatch_table(_provider: RdsProvider) -> dict[str, Any]:
        def answer(context: RequestContext, _request: Any) -> Any:
            return call_moto(context)

        return dict.fromkeys(load_service("rds").operation_names, answer)

    return Service.for_provider(RdsProvider(), dispatch_table_factory=dispatch_table)
