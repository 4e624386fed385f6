"""
Why a server refused us, found out by codes and never by the text of a message.

psycopg2 gives no SQLSTATE for a connection that failed. So, after a failure only, the
way is walked again step by step: name, TCP, TLS with the standard library's typed
errors, and then libpq itself, told to print the code.
"""

from __future__ import annotations

import ctypes
import re
import select
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import _psycopg, extensions

from core.errors import (
    MigrationError,
    NotReady,
    Rejected,
    RunFailed,
    Unreachable,
    UntrustedServer,
)
from core.model import OLDEST_POSTGRESQL, Database

# PostgreSQL documentation, "Message Formats": SSLRequest.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

# OpenSSL, x509_vfy.h.
_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_ADDRESS = 10, 9, 62, 64

# libpq, "Control Functions": PQERRORS_VERBOSE puts the SQLSTATE behind the severity.
_PQERRORS_VERBOSE = 2
_SQLSTATE = re.compile(r"^\S+:\s+([0-9A-Z]{5}):", re.MULTILINE)


def why_refused(
    database: Database, parameters: dict[str, Any], *, timeout_seconds: float
) -> MigrationError | str | None:
    """
    Return why *database* cannot be connected to with libpq's *parameters*.

    The answer is an error where the way there is at fault, a SQLSTATE where the server
    refused, and ``None`` where the connection broke or would work by now.
    """
    return _way_there(database, timeout_seconds) or _server_code(parameters, timeout_seconds)


def _way_there(database: Database, timeout_seconds: float) -> MigrationError | None:
    """Return what is wrong with name, network or TLS, if anything is."""
    where = f"{database.host}:{database.port}"
    if not Path(database.ca_file).is_file():
        return RunFailed(f"CA file {database.ca_file} does not exist: correct the parameter CaFile")
    try:
        with socket.create_connection((database.host, database.port), timeout_seconds) as plain:
            plain.sendall(_SSL_REQUEST)
            answer = plain.recv(1)
            if answer == b"N":
                return UntrustedServer(f"{where} offers no TLS: turn it on; no password was sent")
            if answer == b"S":
                return _tls(plain, database)
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        # As where it closed the connection in order.
        pass
    except socket.gaierror:
        return NotReady(f"the name {database.host} does not resolve yet")
    except TimeoutError:
        return Unreachable(
            f"{where} did not answer within {timeout_seconds:.0f} s: "
            "check routes and security groups"
        )
    except ConnectionRefusedError:
        return NotReady(f"{where} refuses connections: the server is not up yet")
    except OSError as error:
        return Unreachable(f"{where} cannot be reached (errno {error.errno})")
    return NotReady(f"{where} hung up before TLS was up: the server may still be starting")


def _tls(plain: socket.socket, database: Database) -> MigrationError | None:
    """Return what is wrong with the server's certificate, if anything is."""
    where = f"the certificate of {database.host}:{database.port}"
    try:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(database.ca_file)
    except (OSError, ssl.SSLError):
        return RunFailed(f"CA file {database.ca_file} contains no certificates: correct CaFile")
    try:
        with trust.wrap_socket(plain, server_hostname=database.host):
            return None
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
            problem = f"is for another name than {database.host}: use the instance's own endpoint"
        elif error.verify_code == _EXPIRED:
            problem = "has expired: renew it (on RDS: rotate the server certificate)"
        elif error.verify_code == _NOT_YET_VALID:
            problem = "is not valid yet: check the clocks"
        else:
            problem = f"is not signed by a CA in {Path(database.ca_file).name}: correct CaFile"
        return UntrustedServer(f"{where} {problem}; no password was sent")
    except ssl.SSLEOFError:
        # It hung up, which says nothing of its certificate.
        raise
    except ssl.SSLError as error:
        return UntrustedServer(f"TLS with {where} failed ({error.reason}); no password was sent")


def too_old(server_version: int, host: str) -> Rejected | None:
    """
    Return what it means that *host* lets us in without our settings, which it refused.

    *server_version* is libpq's (PQserverVersion): 130012 for 13.12.
    """
    major = server_version // 10000
    if major >= OLDEST_POSTGRESQL:
        return None
    return Rejected(
        f"{host} runs PostgreSQL {major}, and day2 needs {OLDEST_POSTGRESQL} or newer: "
        "upgrade it first"
    )


def _server_code(parameters: dict[str, Any], timeout_seconds: float) -> MigrationError | str | None:
    """Connect once more, to learn the SQLSTATE with which the server refuses."""
    session = None
    try:
        session = psycopg2.connect(**parameters, async_=True)
        _be_verbose(session)
        end = time.monotonic() + timeout_seconds
        while (wants := session.poll()) != extensions.POLL_OK:
            left = max(0.0, end - time.monotonic())
            reads = [session] if wants == extensions.POLL_READ else []
            writes = [session] if wants == extensions.POLL_WRITE else []
            if not any(select.select(reads, writes, [], left)):
                break
    except psycopg2.OperationalError as error:
        found = _SQLSTATE.search(str(error))
        return found.group(1) if found else None
    else:
        return too_old(session.server_version, parameters["host"])
    finally:
        if session is not None:
            session.close()


def _be_verbose(session: extensions.connection) -> None:
    """Have libpq print the SQLSTATE in the errors of *session*; psycopg2 has no call for it."""
    library = ctypes.CDLL(_psycopg.__file__)
    library.PQsetErrorVerbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.PQsetErrorVerbosity(session.pgconn_ptr, _PQERRORS_VERBOSE)
