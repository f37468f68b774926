"""What is special about blobs in a bucket."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import boto3
import pytest

from aimass.core.errors import StorageError
from aimass.store import bucket as bucket_place
from aimass.store.blobs import Blobs

PUT = """
import os, sys
from aimass.store import bucket
from aimass.store.blobs import Blobs
bucket._PART = 5 << 20
blobs = Blobs(sys.argv[1])
print("ready", flush=True)
while True:
    print(blobs.put(os.urandom(1 << 20) for _ in range(12)).sha256, flush=True)
"""


def objects(url):
    name, prefix = url.removeprefix("s3://").split("/", 1)
    client = boto3.client("s3")
    try:
        return [
            (found["Key"], client.get_object(Bucket=name, Key=found["Key"])["Body"].read())
            for found in client.list_objects_v2(Bucket=name, Prefix=prefix).get("Contents", [])
        ]
    finally:
        client.close()


def test_blobs_lie_below_the_prefix(bucket):
    blob = Blobs(bucket).put([b"hello"])
    assert objects(bucket) == [(f"some/where/{blob.sha256[:2]}/{blob.sha256}", b"hello")]


def test_a_blob_of_several_parts_is_whole(bucket, monkeypatch):
    monkeypatch.setattr(bucket_place, "_PART", 5 << 20)
    content = os.urandom(17 << 20)
    blobs = Blobs(bucket)
    blob = blobs.put([content])
    assert blobs.check(blob.sha256).size_bytes == len(content)


def test_a_kill_at_any_moment_leaves_whole_blobs_alone(bucket, own_home):
    told = set()
    for turn in range(4):
        with subprocess.Popen([sys.executable, "-c", PUT, bucket], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.11 * turn)
            os.kill(writer.pid, signal.SIGKILL)
            told.update(line for line in writer.stdout.read().splitlines() if len(line) == 64)
    seen = {key.rsplit("/", 1)[-1]: hashlib.sha256(content).hexdigest() for key, content in objects(bucket)}
    assert all(name == found for name, found in seen.items())
    assert told <= set(seen)
    for path in (own_home / "spool").iterdir():
        os.utime(path, (0, 0))
    Blobs(bucket).sweep(set(seen), older_than_s=3600)
    assert list((own_home / "spool").iterdir()) == []


def _put_long_ago(blobs, blob):
    """Have the server, which is in this process, say so."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    bucket, key = blobs._place._key(blob.sha256).split("/", 1)
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys[key]
    found.last_modified -= timedelta(days=1)


def test_what_is_put_in_again_during_a_sweep_stays(bucket, monkeypatch):
    blobs = Blobs(bucket)
    blob = blobs.put([b"hello"])
    _put_long_ago(blobs, blob)
    find = blobs._place._files.find

    def slow(*asked, **more):
        listed = find(*asked, **more)
        blobs.put([b"hello"])
        return listed

    monkeypatch.setattr(blobs._place._files, "find", slow)
    assert blobs.sweep(set(), older_than_s=3600) == 0
    assert blobs.exists(blob.sha256)
    monkeypatch.undo()
    assert blobs.sweep(set(), older_than_s=-5) == 1


def test_a_bucket_that_is_not_there_is_named(bucket, own_home):
    blobs = Blobs("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match="s3://no-such-bucket/x cannot be kept"):
        blobs.put([b"hello"])
    assert list((own_home / "spool").iterdir()) == []


def test_a_store_that_is_away_is_named(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="check AWS_ENDPOINT_URL"):
        Blobs(bucket).put([b"hello"])


def test_a_missing_package_is_named_with_how_to_add_it():
    program = "import sys; sys.modules['s3fs'] = None; from aimass.store.blobs import Blobs; Blobs('s3://bucket/prefix')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "MissingExtra: blobs in S3 need the package s3fs; install it: pip install 'aimass[s3]'" in done.stderr
