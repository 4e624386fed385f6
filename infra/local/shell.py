"""
The shell that a command was typed in, whose variables may be for another AWS and other databases.

A profile that is not there stops every client of AWS, a proxy is asked for this machine's own
ports, and a service or an option of libpq's changes whichever server it meets.
"""

import os
from collections.abc import Mapping, MutableMapping

from infra.local.postgres.programs import GIVEN

# Settings of a person, which lead nowhere.
_HARMLESS = ("AWS_PAGER", "AWS_DEFAULT_OUTPUT", "AWS_CLI_", GIVEN)
# These may be set in a shell that cannot be seen from here, such as that of a container's host.
ALWAYS_UNSET = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
_HERE = ("127.0.0.1", "localhost")


def leading_elsewhere(environment: Mapping[str, str]) -> list[str]:
    """Return the variables by which a client of AWS or of PostgreSQL would go elsewhere."""
    return sorted(
        name
        for name in environment
        if name.startswith(("AWS_", "PG")) and not name.startswith(_HARMLESS)
    )


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep this machine's ports from a proxy, where one is set."""
    if not any(name.lower() in _PROXIES for name in environment):
        return {}
    return {
        name: ",".join(dict.fromkeys([*filter(None, environment.get(name, "").split(",")), *_HERE]))
        for name in ("no_proxy", "NO_PROXY")
    }


def forget(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take from *environment* what leads elsewhere; files of the home folder count too."""
    for name in leading_elsewhere(environment):
        del environment[name]
    environment.update(without_proxy(environment))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        environment[name] = os.devnull
