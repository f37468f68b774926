"""The thread that sweeps the store."""

import threading

from aimass.core.errors import StorageError
from aimass.service import sweeping


def test_the_store_is_swept_again_whatever_went_wrong_before(monkeypatch):
    errors, swept = [StorageError("the store is away"), OSError("a folder may not be read")], threading.Event()

    def sweep(database, blobs):
        assert (database, blobs) == ("database", "blobs")
        if errors:
            raise errors.pop()
        swept.set()
        return 0

    monkeypatch.setattr(sweeping, "_FIRST_S", 0.01)
    monkeypatch.setattr(sweeping, "_EVERY_S", 0.01)
    monkeypatch.setattr(sweeping, "sweep", sweep)
    sweeper = sweeping.Sweeper("database", "blobs")
    sweeper.start()
    assert swept.wait(120)
    sweeper.close()
    assert not sweeper._thread.is_alive()
