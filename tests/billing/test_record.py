import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.billing.record import Charge, Closed, Credit, Damaged, Opened, Sent, UsageLog, read_log
from aimass.core.errors import Conflict, StorageError, Unavailable

PLAIN = (1.5, "proj-a", "key", "prediction", "prediction", "digits", 2, 3, "row", "req-1", 30, "price-x", 300)

WRITER = """
import os, signal, sys
from pathlib import Path
from aimass.billing.record import UsageLog
log = UsageLog(Path(sys.argv[1]), "gw-1")
for number in range(int(sys.argv[2])):
    log.charge(1.5, "proj-a", "key", "prediction", "prediction", "digits", 2, 3, "row", f"req-{number}", 30, "price-x", 300)
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def charges(path):
    return [record for record, _ in read_log(path) if isinstance(record, Charge)]


def test_what_was_written_is_read(tmp_path):
    with UsageLog(tmp_path, "gw-1") as log:
        first = log.charge(*PLAIN, "rsv-1")
        second = log.charge(*PLAIN, event_id="mine")
        log.sent(first)
        log.credit(second)
    records = [record for record, _ in read_log(log.path)]
    assert records == [
        Opened(1, "gw-1"),
        Charge(1, "gw-1-0000000001", *PLAIN, "rsv-1"),
        Charge(2, "mine", *PLAIN, None),
        Sent([1]),
        Credit([2]),
        Closed(),
    ]


def test_reading_goes_on_from_any_position(tmp_path):
    with UsageLog(tmp_path) as log:
        for _ in range(5):
            log.sent(log.charge(*PLAIN))
    everything = list(read_log(log.path))
    for index, (_, position) in enumerate(everything):
        assert list(read_log(log.path, position)) == everything[index + 1 :]
    assert everything[-1][1] == log.path.stat().st_size


def test_a_killed_writer_loses_nothing_that_it_was_told_is_written(tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), "50"], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [f"req-{line}" for line in done.stdout.split()] == [charge.request for charge in charges(tmp_path / "gw-1.log")]


def test_marks_travel_with_the_next_charge(tmp_path):
    log = UsageLog(tmp_path)
    log.sent(log.charge(*PLAIN))
    assert not any(isinstance(record, Sent) for record, _ in read_log(log.path))
    log.charge(*PLAIN)
    assert Sent([1]) in [record for record, _ in read_log(log.path)]
    log.close()


def test_a_log_has_one_writer_and_one_life(tmp_path):
    log = UsageLog(tmp_path, "gw-1")
    with pytest.raises(Conflict, match="another process writes"):
        UsageLog(tmp_path, "gw-1")
    log.close()
    with pytest.raises(Conflict, match="written already"):
        UsageLog(tmp_path, "gw-1")
    with pytest.raises(Unavailable, match="closed"):
        log.charge(*PLAIN)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a log of eight charges, and where each frame ends."""
    with UsageLog(tmp_path_factory.mktemp("log")) as log:
        for number in range(8):
            log.charge(*PLAIN[:9], f"req-{number}", *PLAIN[10:])
    return log.path.read_bytes(), [0, *(position for _, position in read_log(log.path))]


def test_a_tail_torn_at_any_byte_ends_the_reading_quietly(written, tmp_path):
    content, ends = written
    path = tmp_path / "torn.log"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        records = list(read_log(path))
        assert [position for _, position in records] == [end for end in ends[1:] if end <= length]
        assert not any(isinstance(record, Damaged) for record, _ in records)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_in_the_middle_is_named_and_the_rest_is_read(written, tmp_path, data):
    content, ends = written
    frame = data.draw(st.integers(1, len(ends) - 3))
    at = data.draw(st.integers(ends[frame], ends[frame + 1] - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.log"
    path.write_bytes(changed)
    records = [record for record, _ in read_log(path)]
    assert Damaged(ends[frame], ends[frame + 1] - ends[frame]) in records
    assert [charge.sequence for charge in charges(path)] == [number for number in range(1, 9) if number != frame]


def test_a_log_that_is_gone_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"gone\.log cannot be read"):
        list(read_log(tmp_path / "gone.log"))


FULL = """
import resource, signal, sys
from pathlib import Path
from aimass.billing.record import UsageLog
from aimass.core.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = UsageLog(Path(sys.argv[1]), "gw-1")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
written = 0
try:
    while True:
        log.charge(1.5, "proj-a", "key", "prediction", "prediction", "digits", 2, 3, "row", "req", 30, "price-x", 300)
        written += 1
except StorageError as error:
    print(written)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.charge(1.5, "proj-a", "key", "prediction", "prediction", "digits", 2, 3, "row", "after", 30, "price-x", 300)
"""


def test_a_full_disk_refuses_the_charge_and_leaves_the_log_whole(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    records = [record for record, _ in read_log(tmp_path / "gw-1.log")]
    assert not any(isinstance(record, Damaged) for record in records)
    found = charges(tmp_path / "gw-1.log")
    assert len(found) == int(done.stdout) + 1
    assert found[-1].request == "after"


def test_only_the_owner_may_read_a_log(tmp_path):
    with UsageLog(tmp_path / "usage") as log:
        assert os.stat(log.path).st_mode & 0o077 == 0


def test_a_charge_that_does_not_reach_the_disk_is_credited(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(5, "Input/output error")

    with UsageLog(tmp_path, "gw-1", fsync=True) as log:
        assert log.charge(*PLAIN) == 1
        with monkeypatch.context() as patched, pytest.raises(StorageError, match=r"gw-1\.log could not be written"):
            patched.setattr("aimass.billing.record.os.fdatasync", broken)
            log.charge(*PLAIN)
        assert log.charge(*PLAIN) == 3
    records = [record for record, _ in read_log(log.path)]
    assert [record.sequences for record in records if isinstance(record, Credit)] == [[2]]
    assert not any(isinstance(record, Damaged) for record in records)
