import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from aimass.core import events
from aimass.core.errors import StorageError, UsageError
from aimass.core.events import Event, EventLog, read_events


@dataclass(frozen=True, kw_only=True)
class Sneezed(Event):
    kind = "test_sneezed"
    loudness: float


def test_events_come_back_in_order_and_typed(tmp_path):
    with EventLog(tmp_path / "e.jsonl", "run-1") as log:
        for loudness in (0.5, 1.5):
            log.append(Sneezed(loudness=loudness))
    found = list(read_events(tmp_path / "e.jsonl"))
    assert [(e.run, e.seq, e.type, e.v) for e in found] == [("run-1", 0, "test_sneezed", 1), ("run-1", 1, "test_sneezed", 1)]
    assert found[1].event() == Sneezed(loudness=1.5)
    assert [e.seq for e in read_events(tmp_path / "e.jsonl", after=0)] == [1]


def test_a_line_that_a_kill_cut_short_is_ignored_and_then_written_over(tmp_path):
    path = tmp_path / "e.jsonl"
    with EventLog(path, "run-1") as log:
        log.append(Sneezed(loudness=1))
    with path.open("a") as file:
        file.write('{"run": "run-1", "seq": 1, "ti')
    assert [e.seq for e in read_events(path)] == [0]
    with EventLog(path, "run-1") as log:
        log.append(Sneezed(loudness=2))
    assert [(e.seq, e.data["loudness"]) for e in read_events(path)] == [(0, 1), (1, 2)]


def test_unknown_types_and_fields_are_left_to_whoever_knows_them(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"v":1,"run":"r","seq":0,"time":1.0,"type":"from_the_future","data":{}}\n'
        '{"v":1,"run":"r","seq":1,"time":1.0,"type":"test_sneezed","data":{"loudness":1,"colour":"red"}}\n'
    )
    first, second = read_events(path)
    assert first.event() is None
    assert second.event() == Sneezed(loudness=1)


def full(log):
    """Have a log write to a disk that is full."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    file, log._file = log._file, os.open("/dev/full", os.O_WRONLY)
    return file


def test_lines_wait_for_a_full_disk_and_come_in_order_when_it_has_room_again(tmp_path):
    with EventLog(tmp_path / "e.jsonl", "r") as log:
        log.append(Sneezed(loudness=0))
        file = full(log)
        for loudness in (1, 2):
            log.append(Sneezed(loudness=loudness))
        os.close(log._file)
        log._file = file
        assert [e.data["loudness"] for e in read_events(log.path)] == [0]
        log.append(Sneezed(loudness=3))
        assert [(e.seq, e.data["loudness"]) for e in read_events(log.path)] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_log_says_so_when_it_ends_on_a_full_disk_or_too_much_waits(tmp_path, monkeypatch):
    log = EventLog(tmp_path / "e.jsonl", "r")
    os.close(full(log))
    log.append(Sneezed(loudness=1))
    with pytest.raises(StorageError, match="no space is left"):
        log.close()
    log.close()
    monkeypatch.setattr(events, "_MOST_WAITING_BYTES", 100)
    log = EventLog(tmp_path / "e.jsonl", "r")
    os.close(full(log))
    with pytest.raises(StorageError, match="no space is left"):
        [log.append(Sneezed(loudness=1)) for _ in range(2)]
    with pytest.raises(StorageError):
        log.close()


def test_a_line_cut_inside_a_character_and_a_second_writer(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"run":"a","seq":0,"time":0,"type":"x","data":{},"v":1}\n{"run":"\xe5\xbc')
    with EventLog(path, "a") as log:
        assert log.append(Sneezed(loudness=1)).seq == 1
        with pytest.raises(UsageError, match="is being driven just now"):
            EventLog(path, "a")
    EventLog(path, "a").close()
