from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from aimass.service.figures import figures


def test_what_the_event_loop_tells_waits_for_no_database():
    def away():
        raise AssertionError("the database was asked")

    platform = SimpleNamespace(database=SimpleNamespace(read=away), center=SimpleNamespace(engines=list))
    found = figures(platform, SimpleNamespace(metrics=lambda: iter(())))
    assert b"aimass_engine_ready" in generate_latest(found.here)
    with pytest.raises(AssertionError, match="was asked"):
        generate_latest(found.kept)
