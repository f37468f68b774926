"""Reading what a run has told."""

import pytest

from aimass.core.events import EventLog
from aimass.service.jobs.journal import Tail
from aimass.training.events import CheckpointWritten


@pytest.mark.parametrize("known", [0, 7, 40, 41])
def test_what_is_new_is_found_however_much_is_known(tmp_path, monkeypatch, known):
    monkeypatch.setattr("aimass.service.jobs.journal._MOST_BYTES", 500)
    with EventLog(tmp_path / "events.jsonl", tmp_path.name) as log:
        for step in range(41):
            log.append(CheckpointWritten(step=step, name=f"step-{step}"))
    tail, found = Tail(tmp_path, known), []
    while events := tail.read():
        found += [event.seq for event in events]
    assert found == list(range(known, 41))
