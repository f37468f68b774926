import contextlib
import socket
import time

import pytest
from serving.gateways import Bill, running, until

WHOLE = b"GET /anything HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """Connections to a gateway that waits half a second for a head."""
    monkeypatch.setattr("aimass.serving.one_write.HEAD_LIMIT_S", 0.5)
    with running(tmp_path, meter=Bill()) as gateway, contextlib.ExitStack() as opened:
        until(lambda: gateway._server.started)
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=20))


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


def test_a_connection_whose_request_does_not_come_to_its_end_is_closed(connect):
    """All are waited for together, for some are given five seconds."""
    connections = {}
    for said in UNFINISHED:
        connections[said] = connect()
        for byte in said:
            connections[said].sendall(bytes([byte]))
    answers = {said: rest_of(connection).count(b"HTTP/1.1 200") for said, connection in connections.items()}
    assert answers == {said: said.count(b"\r\n\r\n") for said in UNFINISHED}


def test_one_that_asks_now_and_then_is_kept(connect):
    connection = connect()
    for _ in range(5):
        connection.sendall(WHOLE[:-2])
        time.sleep(0.35)
        connection.sendall(WHOLE[-2:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    time.sleep(1.2)
    connection.sendall(WHOLE)
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")


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
    connection.settimeout(5)
    found, more = b"", b"any"
    while more and found.count(b"HTTP/1.1 200") < 2:
        more = connection.recv(65536)
        found += more
    assert found.count(b"HTTP/1.1 200") == 2
