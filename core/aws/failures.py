"""What botocore raises, translated into what it means to a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from core.decisions.refusals import meaning_of
from core.errors import AccessDenied, MigrationError, NotReady, OutOfReach, Rejected, RunFailed


@contextmanager
def calling(action: str, thing: str, missing: type[MigrationError] = RunFailed) -> Iterator[None]:
    """Translate what botocore raises while *action* is called for *thing*."""
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        raise meaning_of(
            str(told.get("Code", "")),
            str(told.get("Message", "")),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
            action=action,
            thing=thing,
            missing=missing,
        ) from error
    except ParamValidationError as error:
        raise Rejected(f"{thing} is not a valid name for {action}") from error
    except NoCredentialsError as error:
        raise AccessDenied(f"{action}: there are no AWS credentials") from error
    except SSLError as error:
        raise OutOfReach(
            f"{action}: TLS with {error.kwargs.get('endpoint_url')} failed: check its name and "
            "its certificate"
        ) from error
    except (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError) as error:
        raise OutOfReach(
            f"{action} cannot be reached: in a VPC without NAT, add the interface endpoint"
        ) from error
    except (HTTPClientError, ResponseParserError) as error:
        # A connection that was cut, or an answer that never came or was half of one.
        raise NotReady(f"{action} did not answer ({type(error).__name__}): try again") from error
    except BotoCoreError as error:
        raise RunFailed(f"{action} for {thing} failed: {type(error).__name__}") from error
