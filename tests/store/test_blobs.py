"""Blobs in a folder and in a bucket: whole or not there, whoever is killed and whatever is full."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimass.core.errors import NotFound, StorageError, TooLarge, UsageError
from aimass.store.blobs import Blobs

ONE = b"0123456789" * 1000
NAME = hashlib.sha256(ONE).hexdigest()

PUT = """
import sys
from aimass.store.blobs import Blobs
blobs, turn = Blobs(sys.argv[1]), 0
print("ready", flush=True)
while True:
    turn += 1
    blob = blobs.put(str(turn).encode() * 4096 for _ in range(64))
    print(blob.sha256, blob.size_bytes, flush=True)
"""


@pytest.fixture(params=["folder", "bucket"])
def everywhere(request, tmp_path):
    if request.param == "folder":
        return Blobs(str(tmp_path / "blobs"))
    return Blobs(request.getfixturevalue("bucket"))


def contents(blobs, sha256):
    with blobs.open(sha256) as stream:
        return stream.read()


def lies_there(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")


def test_what_was_put_is_there_under_its_hash(everywhere):
    blob = everywhere.put([ONE[:77], b"", ONE[77:]])
    assert (blob.sha256, blob.size_bytes) == (NAME, len(ONE))
    assert contents(everywhere, NAME) == ONE
    assert everywhere.exists(NAME)
    assert everywhere.size(NAME) == len(ONE)
    assert everywhere.check(NAME) == blob
    assert everywhere.put([ONE]) == blob


def test_a_stream_can_be_read_from_the_middle(everywhere):
    everywhere.put([ONE])
    with everywhere.open(NAME) as stream:
        stream.seek(5005)
        assert stream.read(7) == ONE[5005:5012]


def test_nothing_can_be_a_blob_too(everywhere):
    blob = everywhere.put([])
    assert (blob.size_bytes, contents(everywhere, blob.sha256)) == (0, b"")


def test_a_large_blob_arrives_in_pieces_of_any_size(everywhere, tmp_path):
    pieces = [bytes([turn % 256]) * (turn * 7919 % 300_000) for turn in range(120)] + [os.urandom(9 << 20)]
    whole = b"".join(pieces)
    with everywhere.receive() as upload:
        for piece in pieces:
            upload.write(piece)
        blob = upload.commit()
    assert (blob.sha256, blob.size_bytes) == (hashlib.sha256(whole).hexdigest(), len(whole))
    everywhere.copy_to(blob.sha256, tmp_path / "below" / "copy.bin")
    assert (tmp_path / "below" / "copy.bin").read_bytes() == whole


def test_a_buffer_that_is_used_again_keeps_what_it_held_when_it_was_given(everywhere):
    buffer, whole = bytearray(3 << 20), b""
    with everywhere.receive() as upload:
        for turn in range(6):
            buffer[:] = bytes([turn]) * len(buffer)
            whole += buffer
            upload.write(memoryview(buffer))
        blob = upload.commit()
    assert blob.sha256 == hashlib.sha256(whole).hexdigest()
    assert everywhere.check(blob.sha256) == blob


def test_more_than_the_limit_leaves_nothing(everywhere, own_home, tmp_path):
    with pytest.raises(TooLarge, match="more than 9,999 bytes"):
        everywhere.put([ONE], limit_bytes=9_999)
    assert everywhere.put([ONE], limit_bytes=10_000).size_bytes == 10_000
    assert lies_there(own_home) == []
    assert [name for name in lies_there(tmp_path) if name.startswith(".unfinished")] == []


def test_what_breaks_on_the_way_leaves_nothing(everywhere, own_home, tmp_path):
    def chunks():
        yield ONE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        everywhere.put(chunks())
    with everywhere.receive() as upload:
        upload.write(ONE)
    assert not everywhere.exists(NAME)
    assert lies_there(own_home) == lies_there(tmp_path) == []
    with pytest.raises(UsageError, match="has ended"):
        upload.write(b"more")
    with pytest.raises(UsageError, match="has ended"):
        upload.commit()


def test_a_blob_that_is_not_there_is_named(everywhere, tmp_path):
    for ask in (everywhere.open, everywhere.size, everywhere.check, lambda sha256: everywhere.copy_to(sha256, tmp_path / "x")):
        with pytest.raises(NotFound, match=NAME):
            ask(NAME)
    assert not (tmp_path / "x").exists()
    assert not everywhere.exists(NAME)
    everywhere.delete(NAME)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", NAME.upper(), NAME[:-1], NAME + "\n", f"../{NAME}"])
def test_a_name_that_is_no_hash_leads_nowhere(blobs, tmp_path, name):
    for ask in (blobs.open, blobs.exists, blobs.delete, lambda sha256: blobs.copy_to(sha256, tmp_path / "x")):
        with pytest.raises(NotFound, match="names no blob"):
            ask(name)


def test_the_sweep_takes_what_nobody_keeps(everywhere):
    kept, loose = everywhere.put([b"kept"]), everywhere.put([b"loose"])
    assert everywhere.sweep({kept.sha256}, older_than_s=3600) == 0
    assert everywhere.sweep({kept.sha256}, older_than_s=-5) == 1
    assert (everywhere.exists(kept.sha256), everywhere.exists(loose.sha256)) == (True, False)


def test_a_blob_that_is_put_again_is_young_again(blobs, tmp_path):
    path = _path(tmp_path, blobs.put([ONE]))
    os.utime(path, (0, 0))
    blobs.put([ONE])
    assert blobs.sweep(set(), older_than_s=3600) == 0
    os.utime(path, (0, 0))
    assert blobs.sweep(set(), older_than_s=3600) == 1


def test_the_sweep_tells_unfinished_files_of_the_dead_from_those_of_the_living(blobs, tmp_path):
    dead = tmp_path / "blobs" / ".unfinished-dead"
    dead.write_bytes(b"half")
    with blobs.receive() as upload:
        upload.write(ONE)
        for path in (tmp_path / "blobs").glob(".unfinished-*"):
            os.utime(path, (0, 0))
        blobs.sweep(set(), older_than_s=3600)
        assert not dead.exists()
        assert upload.commit().sha256 == NAME
    assert contents(blobs, NAME) == ONE


def test_a_damaged_blob_is_named_and_mended_by_putting_it_again(blobs, tmp_path):
    path = _path(tmp_path, blobs.put([ONE]))
    path.chmod(0o644)
    path.write_bytes(b"X" + ONE[1:])
    with pytest.raises(StorageError, match=f"{NAME} in .* is damaged"):
        blobs.check(NAME)
    blobs.put([ONE])
    assert blobs.check(NAME).size_bytes == len(ONE)


def test_a_copy_on_the_same_disk_takes_no_room(blobs, tmp_path):
    path = _path(tmp_path, blobs.put([ONE]))
    (tmp_path / "copy").write_text("older")
    blobs.copy_to(NAME, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == ONE
    assert path.stat().st_nlink == 2 or (tmp_path / "copy").stat().st_blocks == 0
    blobs.delete(NAME)
    assert (tmp_path / "copy").read_bytes() == ONE


def test_a_copy_to_another_disk_is_whole(blobs):
    blobs.put([ONE])
    away = Path("/dev/shm") / f"aimass-test-{os.getpid()}"
    try:
        blobs.copy_to(NAME, away)
        assert away.read_bytes() == ONE
    finally:
        away.unlink(missing_ok=True)


def test_a_file_is_put_by_its_path(blobs, tmp_path):
    (tmp_path / "data.csv").write_bytes(ONE)
    assert blobs.put_file(tmp_path / "data.csv").sha256 == NAME
    for missing in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NotFound, match="is no file"):
            blobs.put_file(missing)


@pytest.mark.parametrize("url", ["", "ftp://host/x", "s3://", "gs://bucket/x", "file://elsewhere/x"])
def test_a_url_that_is_no_place_says_what_is_one(url):
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        Blobs(url)


def test_a_folder_may_be_given_as_a_url(tmp_path):
    Blobs(f"file://{tmp_path}/with%20space").put([ONE])
    assert NAME in lies_there(tmp_path / "with space")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Blobs(str(tmp_path / "file" / "blobs"))


def test_a_kill_at_any_moment_leaves_whole_blobs_alone(tmp_path):
    blobs = Blobs(str(tmp_path / "blobs"))
    for turn in range(8):
        with subprocess.Popen([sys.executable, "-c", PUT, str(tmp_path / "blobs")], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.013 * turn)
            os.kill(writer.pid, signal.SIGKILL)
            told = [line.split() for line in writer.stdout.read().splitlines() if line.count(" ") == 1 and len(line) > 65]
        for sha256, size in told:
            assert blobs.check(sha256).size_bytes == int(size)
    for path in (tmp_path / "blobs").glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        os.utime(path, (0, 0))
    for path in (tmp_path / "blobs").glob(".unfinished-*"):
        os.utime(path, (0, 0))
    blobs.sweep(set(), older_than_s=10)
    assert lies_there(tmp_path / "blobs") == []


def test_a_disk_that_is_full_is_said_and_leaves_nothing(blobs, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        for size in (1 << 16, 5 << 20):
            with pytest.raises(StorageError, match="larger than this process may write"):
                blobs.put(os.urandom(size) for _ in range(6 + (32 << 20) // size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert lies_there(tmp_path / "blobs") == []


def test_a_small_disk_that_fills_up_is_said_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode != 0:
        pytest.skip("no file system may be mounted here; the test with a limit on files says much the same")
    try:
        blobs = Blobs(str(disk / "blobs"))
        kept = blobs.put([ONE])
        with pytest.raises(StorageError, match="no space is left"):
            blobs.put(os.urandom(1 << 20) for _ in range(9))
        assert lies_there(disk) == [NAME]
        assert blobs.check(NAME) == kept
        assert blobs.put([b"there is room again"]).size_bytes == 19
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_thread_is_left_behind(blobs):
    import threading

    before = set(threading.enumerate())
    for end in ("commit", "discard"):
        upload = blobs.receive()
        upload.write(os.urandom(9 << 20))
        getattr(upload, end)()
    assert set(threading.enumerate()) <= before


def _path(tmp_path, blob):
    return tmp_path / "blobs" / blob.sha256[:2] / blob.sha256
