"""
TLS in front of a PostgreSQL that was built without OpenSSL, as a process of its own.

    python tls_front.py PORT SERVER_SOCKET CERTIFICATE KEY

It listens on 127.0.0.1:PORT, speaks PostgreSQL's SSLRequest, refuses plain connections as
``rds.force_ssl`` does, and passes the bytes on to the server's unix socket.  What a client can
tell from the real thing: ``pg_stat_ssl`` says false, ``inet_client_addr()`` is null, and channel
binding is not offered.
"""

import asyncio
import contextlib
import ssl
import struct
import sys

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


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server_socket: str,
    tls: ssl.SSLContext,
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
    elif code != CANCEL_REQUEST:
        await reader.readexactly(length - 8)
        writer.write(refusal('no pg_hba.conf entry for host "127.0.0.1", no encryption'))
        await writer.drain()
        return
    server_reader, server_writer = await asyncio.open_unix_connection(server_socket)
    server_writer.write(first)
    await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))


async def listen(port: int, server_socket: str, certificate: str, key: str) -> None:
    """Listen until killed."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(certificate, key)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer, server_socket, tls)
        except (asyncio.IncompleteReadError, OSError):
            # The client went away or did not trust us, or the server is down: either sees it.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(listen(int(sys.argv[1]), *sys.argv[2:5]))
