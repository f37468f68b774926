import socket

import httpx
from services import free_port

from aimass.cli import background


def test_a_port_that_another_is_faster_to_take_is_left_to_it(home, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(background, "_port", lambda: taken)  # it was free when it was looked at
        with background.service_in(home) as service:
            assert not service.url.endswith(f":{taken}")
            assert httpx.get(f"{service.url}/health/ready", timeout=60).status_code == 200
    assert service.process.poll() == 0
