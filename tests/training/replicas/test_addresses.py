import threading

import pytest
from training.groups import make_workers

from aimass.training.replicas.addresses import NOTE_BYTES, AddressStore


def never():
    return True


def test_what_one_worker_sets_all_others_of_the_same_group_read():
    first, second = make_workers(2)
    ours, theirs = AddressStore(first, 7, never), AddressStore(second, 7, never)
    ours.set("0/0", b"\x00here\xff")
    theirs.set("0/1", "there")
    ours.set("again", b"")
    for store in (ours, theirs):
        assert store.get("0/0") == b"\x00here\xff"
        assert store.get("0/1") == b"there"
        assert store.get("again") == b""
        assert store.check(["0/0", "0/1"])
        assert not store.check(["0/0", "0/2"])


def test_notes_of_other_groups_are_empty():
    first, second = make_workers(2)
    AddressStore(first, 7, never).set("0/0", b"old")
    store = AddressStore(second, 8, never)
    assert not store.check(["0/0"])
    ours = AddressStore(first, 8, never)
    assert not store.check(["0/0"])
    ours.set("0/0", b"new")
    assert store.get("0/0") == b"new"


def test_whoever_waits_gets_it_as_soon_as_it_is_set_or_gives_up_with_the_group():
    first, second = make_workers(2)
    is_current = True
    ours, theirs = AddressStore(first, 1, never), AddressStore(second, 1, lambda: is_current)
    found = []
    thread = threading.Thread(target=lambda: found.append(theirs.get("key")))
    thread.start()
    ours.set("key", b"value")
    thread.join(60)
    assert found == [b"value"]
    is_current = False
    with pytest.raises(RuntimeError, match="a worker was lost"):
        theirs.wait(["other"])


def test_what_does_not_fit_is_refused():
    store = AddressStore(make_workers(2)[0], 1, never)
    with pytest.raises(RuntimeError, match="take more than 4096 bytes"):
        store.set("key", b"x" * NOTE_BYTES)
