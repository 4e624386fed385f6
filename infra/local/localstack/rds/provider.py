"""
The RDS API, which LocalStack's open edition lacks.

moto answers every operation of it, after RDS's own rules have been asked, but for those that tell
which versions there are.
"""

from typing import Any

from localstack.aws.api import CommonServiceException, RequestContext
from localstack.aws.spec import load_service
from localstack.services.moto import call_moto
from localstack.services.plugins import Service, aws_provider

from infra.local.localstack.rds import catalog, clusters, deployments, instances, rules
from infra.local.postgres import engine_versions


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
        def answer(context: RequestContext, request: Any) -> Any:
            try:
                rules.check(context.operation.name, request)
            except rules.RefusedError as error:
                raise CommonServiceException(error.code, str(error), 400, True) from error
            return call_moto(context)

        def engine_versions_of(context: RequestContext, request: Any) -> Any:
            if request.get("Engine", rules.ENGINE) != rules.ENGINE:
                return call_moto(context)
            versions = [offer.version for offer in engine_versions.offers()]
            return catalog.engine_versions(request, versions, engine_versions.usual_version())

        def orderable_options(context: RequestContext, request: Any) -> Any:
            if request["Engine"] != rules.ENGINE:
                return call_moto(context)
            versions = [offer.version for offer in engine_versions.offers()]
            return catalog.orderable_options(request, versions, context.region)

        return dict.fromkeys(load_service("rds").operation_names, answer) | {
            "DescribeDBEngineVersions": engine_versions_of,
            "DescribeOrderableDBInstanceOptions": orderable_options,
        }

    return Service.for_provider(RdsProvider(), dispatch_table_factory=dispatch_table)
