"""How the engine's end of a socket behaves when more comes than it can take, or than the gateway reads."""

import asyncio
import json

import pytest
from serving.engine import models

from aimass.serving.engine import server as module
from aimass.serving.engine.models import Models
from aimass.serving.engine.server import Connection, Server
from aimass.serving.frames import Ask, FrameReader, Reply, frame

BODY = json.dumps({"instances": [{"a": 1.5, "b": 0.001, "c": 2e6}]}).encode()
TEN = b"".join(frame(Ask(number, "answer", "one", "predict"), BODY) for number in range(10))


class Transport(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self):
        super().__init__()
        self.events, self.sent = [], FrameReader(Reply)
        self.replies = []
        self.closing = False

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.events.append("pause")

    def resume_reading(self):
        self.events.append("resume")

    def write(self, data):
        self.replies += self.sent.feed(data)

    def close(self):
        self.closing = True


@pytest.fixture
def held(tmp_path):
    models.numeric().save(tmp_path / "m")
    found = Models()
    found.load("one", tmp_path / "m", "m", 1, {"max_batch": 4})
    return found


def connected(server):
    connection, transport = Connection(server), Transport()
    connection.connection_made(transport)
    return connection, transport


def test_when_too_much_waits_it_reads_no_more_until_all_is_answered(held, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING_BYTES", 5 * len(BODY))

    async def check():
        server = Server(held, 30.0)
        connection, transport = connected(server)
        connection.data_received(TEN)
        assert transport.events == ["pause"]
        while not server.batcher.is_empty:
            await asyncio.sleep(0)
        assert transport.events == ["pause", "resume"]
        assert [header.status for header, _ in transport.replies] == [200] * 10

    asyncio.run(check())


def test_while_the_gateway_does_not_read_nothing_is_read_from_it(held, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING_BYTES", 5 * len(BODY))

    async def check():
        server = Server(held, 30.0)
        connection, transport = connected(server)
        connection.pause_writing()
        connection.data_received(TEN)
        while not server.batcher.is_empty:
            await asyncio.sleep(0)
        assert "resume" not in transport.events
        connection.resume_writing()
        assert transport.events[-1] == "resume"

    asyncio.run(check())


def test_leaving_it_answers_what_was_read_then_closes(held):
    async def check():
        server = Server(held, 30.0)
        connection, transport = connected(server)
        connection.data_received(TEN)
        server.leave()
        server.leave()
        assert not transport.closing
        while not server.batcher.is_empty:
            await asyncio.sleep(0)
        assert (transport.closing, len(transport.replies)) == (True, 10)
        late, newer = connected(server)
        assert newer.closing
        late.send(Reply(1, 200), b"")
        assert newer.replies == []

    asyncio.run(check())


def test_what_is_loaded_while_others_ask_is_there_when_the_reply_comes(held, tmp_path):
    async def check():
        server = Server(held, 30.0)
        connection, transport = connected(server)
        order = module._pack({"folder": str(tmp_path / "m"), "name": "n", "version": 2})
        connection.data_received(frame(Ask(100, "load", "two"), order) + TEN)
        while 100 not in [header.id for header, _ in transport.replies]:
            await asyncio.sleep(0.001)
        connection.data_received(frame(Ask(101, "answer", "two", "predict"), BODY))
        header, body = transport.replies[-1]
        assert (header.id, header.status, json.loads(body)["model"]) == (101, 200, "n")

    asyncio.run(check())
