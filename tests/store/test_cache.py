"""Folders made from versions: whole, checked, made once, and mended."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aimass.core.errors import NotFound, StorageError, UsageError
from aimass.store.blobs import Blobs
from aimass.store.cache import Cache

FILES = {"model.json": b"{}", "parts/a.safetensors": b"a" * 100_000, "parts/b.safetensors": b"b" * 3_000_000}

MAKE = """
import sys
from pathlib import Path
from aimass.store.blobs import Blob, Blobs
from aimass.store.cache import Cache
blobs = Blobs(sys.argv[1])
files = {path: Blob(sha256, blobs.size(sha256)) for path, sha256 in (pair.split("=") for pair in sys.argv[3:])}
print("ready", flush=True)
folder = Cache(blobs).folder("ver-1", files, Path(sys.argv[2]))
for path, blob in files.items():
    assert (folder / path).stat().st_size == blob.size_bytes
print((folder / "model.json").stat().st_ino, flush=True)
"""


@pytest.fixture
def files(blobs):
    return {path: blobs.put([content]) for path, content in FILES.items()}


def inodes(folder):
    return {path: (folder / path).stat().st_ino for path in FILES}


def contents(folder):
    return {path: (folder / path).read_bytes() for path in FILES}


def test_a_folder_has_the_versions_files(blobs, files, tmp_path):
    folder = Cache(blobs).folder("ver-1", files, tmp_path / "cache")
    assert contents(folder) == FILES
    assert (tmp_path / "cache" / "ver-1") == folder


def test_a_folder_from_a_bucket_is_the_same(bucket, tmp_path):
    blobs = Blobs(bucket)
    files = {path: blobs.put([content]) for path, content in FILES.items()}
    assert contents(Cache(blobs).folder("ver-1", files, tmp_path / "cache")) == FILES


def test_a_folder_is_made_once(blobs, files, tmp_path):
    first = inodes(Cache(blobs).folder("ver-1", files, tmp_path / "cache"))
    cache = Cache(blobs)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: cache.folder("ver-1", files, tmp_path / "cache"), range(16)))
    assert all(inodes(folder) == first for folder in folders)


@pytest.mark.parametrize("known", [True, False], ids=["by this process", "by another"])
@pytest.mark.parametrize("how", ["changed", "cut", "removed", "all removed", "changed in secret"])
def test_a_damaged_folder_is_made_anew(blobs, files, tmp_path, how, known):
    cache = Cache(blobs)
    folder = cache.folder("ver-1", files, tmp_path / "cache")
    path = folder / "parts" / "a.safetensors"
    times = path.stat()
    if how == "all removed":
        subprocess.run(["rm", "-r", str(folder)], check=True)
    elif how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"x" * (100_000 if how != "cut" else 7))
    if how == "changed in secret":
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = (cache if known else Cache(blobs)).folder("ver-1", files, tmp_path / "cache")
    assert again == folder
    assert contents(again) == FILES
    assert all(blobs.check(blob.sha256) == blob for blob in files.values()), "damage to the cache must not reach the store"


def test_a_damaged_blob_is_named_and_no_folder_is_made(blobs, files, tmp_path):
    blob = files["parts/a.safetensors"]
    path = tmp_path / "blobs" / blob.sha256[:2] / blob.sha256
    path.chmod(0o644)
    path.write_bytes(b"x" * blob.size_bytes)
    with pytest.raises(StorageError, match=f"{blob.sha256} in .* is damaged"):
        Cache(blobs).folder("ver-1", files, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".locks"]
    blobs.delete(blob.sha256)
    with pytest.raises(NotFound, match=blob.sha256):
        Cache(blobs).folder("ver-1", files, tmp_path / "cache")


def test_processes_that_ask_at_once_get_the_same_folder(files, tmp_path):
    makers = [_make(files, tmp_path) for _ in range(3)]
    ends = [(maker.communicate(timeout=60), maker.returncode) for maker in makers]
    assert [(error, code) for (_, error), code in ends] == [("", 0)] * 3
    assert len({out for (out, _), _ in ends}) == 1


def test_a_kill_while_it_is_made_does_not_matter(blobs, files, tmp_path):
    for pause_s in (0.0, 0.002, 0.005, 0.01):
        with _make(files, tmp_path) as maker:
            maker.stdout.readline()
            time.sleep(pause_s)
            os.kill(maker.pid, signal.SIGKILL)
        folder = tmp_path / "cache" / "ver-1"
        assert not folder.exists() or contents(folder) == FILES
        if pause_s:
            assert contents(Cache(blobs).folder("ver-1", files, tmp_path / "cache")) == FILES
            subprocess.run(["rm", "-r", str(folder)], check=True)
    Cache(blobs).folder("ver-1", files, tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".locks", "ver-1"]


@pytest.mark.parametrize("name", ["..", "", "a/b", ".locks", "/etc"])
def test_a_name_that_leaves_the_cache_is_refused(blobs, files, tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a folder"):
        Cache(blobs).folder(name, files, tmp_path / "cache")


def _make(files, tmp_path):
    pairs = [f"{path}={blob.sha256}" for path, blob in files.items()]
    arguments = [sys.executable, "-c", MAKE, str(tmp_path / "blobs"), str(tmp_path / "cache"), *pairs]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
