import contextlib
import socket

import pytest
from serving.gateways import Bill, running, until

WHOLE = b"GET /anything HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """One that looks for heads without an end when it is told to."""
    monkeypatch.setattr("aimass.serving.one_write.HEAD_LIMIT_S", 3600.0)
    with running(tmp_path, meter=Bill()) as gateway:
        until(lambda: gateway._server.started)
        yield gateway


@pytest.fixture
def connect(gateway):
    """Makes connections to it."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=120))


def look(gateway):
    """Have it look at every connection, as it else does every half minute."""

    async def inside():
        for connection in list(gateway._server.server_state.connections):
            connection._timer.cancel()
            connection._look()

    gateway.do(inside())


def answered(connection, count):
    """What has come, once it has so many answers."""
    found = b""
    while found.count(b"HTTP/1.1 200") < count:
        more = connection.recv(65536)
        assert more, "the connection was closed"
        found += more
    return found


def rest_of(connection):
    found = b""
    with contextlib.suppress(ConnectionError):
        while got := connection.recv(65536):
            found += got
    return found


UNFINISHED = (
    b"",
    b"\r\n",
    WHOLE[:-2],
    WHOLE + WHOLE[:-2],
    b"POST /anything HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",  # answered without it
)


def test_a_connection_whose_request_does_not_come_to_its_end_is_closed(gateway, connect, monkeypatch):
    """All are waited for together, for some are given five seconds."""
    connections = {}
    for said in UNFINISHED:
        connections[said] = connect()
        for byte in said:
            connections[said].sendall(bytes([byte]))
        answered(connections[said], said.count(b"\r\n\r\n"))
    monkeypatch.setattr("aimass.serving.one_write.HEAD_LIMIT_S", 0.2)
    look(gateway)
    assert [rest_of(connection) for connection in connections.values()] == [b""] * len(UNFINISHED)


def test_one_that_asks_now_and_then_is_kept(gateway, connect):
    connection = connect()
    until(lambda: gateway._server.server_state.connections)
    for _ in range(3):
        connection.sendall(WHOLE[:-2])
        look(gateway)
        connection.sendall(WHOLE[-2:])
        answered(connection, 1)
    for _ in range(3):
        look(gateway)
    connection.sendall(WHOLE)
    answered(connection, 1)


@pytest.mark.parametrize("begin", [b"", b"GET /", WHOLE[:-2] + b"x: "])
def test_a_head_without_an_end_is_refused_by_its_length(connect, begin):
    connection = connect()
    connection.sendall(begin)
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 50_000_000:
            sent += connection.send((b"a" if begin else b"\r\n") * 10_000)
    assert sent < 20_000_000  # what the kernel holds of it


def test_a_long_body_is_no_head(connect):
    connection = connect()
    connection.sendall(b"POST /anything HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"a" * 300_000 + WHOLE)
    answered(connection, 2)
