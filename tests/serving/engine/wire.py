"""A real engine as a process, and a small client of its socket."""

import json
import select
import socket
import subprocess
import sys
import time

import msgspec

from aimass.serving.frames import Ask, FrameReader, Reply, frame

WAIT_S = 120.0


class Engine:
    """Starts `python -m aimass.serving.engine` and speaks to it."""

    def __init__(self, folder, *options, stdin=subprocess.PIPE):
        self.path = folder / "engine.sock"
        command = [sys.executable, "-m", "aimass.serving.engine", "--socket", str(self.path), "--idle-s", "3600", *options]
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.ids = 0

    def wait_ready(self):
        assert self.process.stdout.readline() == b"ready\n", self.process.stderr.read().decode()
        return self

    def connect(self):
        return Wire(self.path)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Wire:
    """One connection to an engine."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))
        self.frames = FrameReader(Reply)
        self.replies = {}
        self.ids = 0

    def ask(self, op, model="", kind="", json_length=0, body=b""):
        """Send a question; returns its id."""
        self.ids += 1
        self.socket.sendall(frame(Ask(self.ids, op, model, kind, json_length), body))
        return self.ids

    def reply(self, number):
        """The reply to a question, and its body."""
        while number not in self.replies:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:  # it left without having read everything
                data = b""
            if not data:
                raise EOFError("the engine closed the connection")
            for header, body in self.frames.feed(data):
                assert header.id not in self.replies
                self.replies[header.id] = (header, body)
        return self.replies.pop(number)

    def call(self, *args, **kwargs):
        return self.reply(self.ask(*args, **kwargs))

    def load(self, model, folder, name="m", version=1, **settings):
        order = {"folder": str(folder), "name": name, "version": version, "settings": settings}
        return self.call("load", model, body=msgspec.msgpack.encode(order))

    def predict(self, model, rows):
        """Status, and what the JSON of the reply says."""
        header, body = self.call("answer", model, "predict", body=json.dumps({"instances": rows}).encode())
        return header.status, json.loads(body)

    def stats(self):
        return msgspec.msgpack.decode(self.call("stats")[1])

    def is_closed(self):
        """Whether the engine has closed the connection, or does so soon."""
        ready, _, _ = select.select([self.socket], [], [], WAIT_S)
        try:
            return bool(ready) and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()


def until(condition):
    """Wait for something to come true."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
