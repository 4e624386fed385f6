"""
What stands before a PostgreSQL that cannot do by itself what RDS does, as a process of its own.

    python tls_front.py PORT SERVER_SOCKET CERTIFICATE KEY [QUERY PASSWORD_FILE]

It listens on 127.0.0.1:PORT, speaks PostgreSQL's SSLRequest, refuses plain connections as
``rds.force_ssl`` does, and passes the bytes on to the server's unix socket.  With a QUERY it asks
the server, as the superuser, whether the user may log in with a password: a row, and it may not.
What a client can tell from the real thing: ``pg_stat_ssl`` says false, ``inet_client_addr()`` is
null, and channel binding is not offered.
"""

import asyncio
import contextlib
import functools
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path

# Codes that stand in the place of a protocol version in a client's first packet
# (PostgreSQL's src/include/libpq/pqcomm.h).
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

CHUNK_BYTES = 65_536


def refusal(message: str) -> bytes:
    """Return PostgreSQL's ErrorResponse for SQLSTATE 28000."""
    fields = b"SFATAL\0VFATAL\0C28000\0M" + message.encode() + b"\0\0"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what *reader* gives until it ends, then close *writer*."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def is_refused(server_socket: str, query: str, password_file: str, user: str) -> bool:
    """Ask the server whether *user* may not log in with a password."""
    import psycopg2

    folder, _, port = server_socket.rpartition("/.s.PGSQL.")
    connection = psycopg2.connect(
        host=folder,
        hostaddr="",
        port=port,
        user="rdsadmin",
        password=Path(password_file).read_text(),
        dbname="postgres",
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(query, (user,))
        return bool(cursor.rowcount)


def user_of(startup: bytes) -> str:
    """Return whom a startup packet's parameters are of."""
    words = startup.decode(errors="replace").split("\0")
    return dict(zip(words[::2], words[1::2], strict=False)).get("user", "")


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server_socket: str,
    tls: ssl.SSLContext,
    asks: Callable[[str], bool] | None,
) -> None:
    """Serve one connection."""
    first = await reader.readexactly(8)
    length, code = struct.unpack("!II", first)
    if code == GSSENC_REQUEST:
        writer.write(b"N")
        first = await reader.readexactly(8)
        length, code = struct.unpack("!II", first)
    if code == SSL_REQUEST:
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(tls)
        first = b""
        if asks:
            first = await reader.readexactly(8)
            length, code = struct.unpack("!II", first)
            startup = await reader.readexactly(length - 8)
            first += startup
            user = user_of(startup)
            if code != CANCEL_REQUEST and await asyncio.to_thread(asks, user):
                writer.write(refusal(f'PAM authentication failed for user "{user}"'))
                await writer.drain()
                return
    elif code != CANCEL_REQUEST:
        await reader.readexactly(length - 8)
        writer.write(refusal('no pg_hba.conf entry for host "127.0.0.1", no encryption'))
        await writer.drain()
        return
    server_reader, server_writer = await asyncio.open_unix_connection(server_socket)
    server_writer.write(first)
    await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))


async def listen(
    port: int, server_socket: str, certificate: str, key: str, *query_and_password_file: str
) -> None:
    """Listen until killed."""
    asks = None
    if query_and_password_file:
        asks = functools.partial(is_refused, server_socket, *query_and_password_file)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(certificate, key)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer, server_socket, tls, asks)
        except (asyncio.IncompleteReadError, OSError):
            # The client went away or did not trust us, or the server is down: either sees it.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(listen(int(sys.argv[1]), *sys.argv[2:]))
