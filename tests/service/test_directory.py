import threading
import time

from aimass.core.errors import NotFound, StorageError, Unavailable
from aimass.service.auth import Keys
from aimass.service.directory import Directory
from aimass.serving.ports import Caller
from aimass.store.database import Database
from aimass.store.registry import Version
from aimass.store.tables import deployments, models, projects, versions

ME = Caller("proj-1", "key", "member")


class Shelf:
    """A registry whose files come from nowhere, or not."""

    def __init__(self, failures=0):
        self.fetched, self.failures = [], failures

    def version_by_id(self, version_id):
        return Version(
            id=version_id,
            project="proj-1",
            model="m",
            number=1,
            files={},
            bytes=1,
            signature={},
            card={},
            lineage={},
            created=0.0,
            aliases=(),
        )

    def materialise(self, version, cache):
        self.fetched.append(version.id)
        if self.failures:
            self.failures -= 1
            raise StorageError("the store is away")
        return cache / version.id


def filled(folder, count):
    """A database with as many deployments."""
    database = Database.open(f"sqlite:///{folder}/a.db")
    with database.write() as connection:
        connection.execute(projects.insert().values(id="proj-1", name="one", created=0.0))
        connection.execute(models.insert().values(id="model-1", project_id="proj-1", name="m", created=0.0, newest=count))
        for number in range(count):
            bare = {"files": {}, "bytes": 1, "signature": {}, "card": {}, "lineage": {}, "created": 0.0}
            connection.execute(versions.insert().values(id=f"ver-{number}", model_id="model-1", number=number + 1, **bare))
            row = {
                "id": f"dep-{number}",
                "project_id": "proj-1",
                "name": f"d{number}",
                "model": "m",
                "version": 1,
                "version_id": f"ver-{number}",
            }
            connection.execute(deployments.insert().values(**row, settings={}, created=0.0, updated=0.0))
    return database


def until(condition, limit_s=120):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_each_version_is_fetched_once_and_the_database_read_once(tmp_path):
    database, shelf = filled(tmp_path, 60), Shelf()
    directory = Directory(database, shelf, Keys(database), tmp_path)
    reads, read = [], database.read
    database.read = lambda: reads.append(1) or read()
    directory.read()
    directory.start()
    until(lambda: len(directory.targets("proj-1")) == 60)
    directory.close()
    assert sorted(shelf.fetched) == sorted(f"ver-{number}" for number in range(60))
    assert len(reads) == 1
    database.close()


def test_what_could_not_be_fetched_is_tried_again(tmp_path):
    database, shelf = filled(tmp_path, 1), Shelf(failures=2)
    directory = Directory(database, shelf, Keys(database), tmp_path, again_s=0.05)
    directory.read()
    directory.start()
    until(lambda: directory.targets("proj-1"))
    directory.close()
    assert directory.state("ver-0") == ("ready", None)
    assert len(shelf.fetched) == 3
    database.close()


def test_a_reader_who_began_before_a_removal_does_not_bring_it_back(tmp_path):
    database = filled(tmp_path, 1)
    directory = Directory(database, Shelf(), Keys(database), tmp_path)
    directory.prepare(Shelf().version_by_id("ver-0"))
    has_read, may_go_on, take = threading.Event(), threading.Event(), directory._take

    def slowly(rows):
        if rows:
            has_read.set()
            may_go_on.wait(120)
        take(rows)

    directory._take = slowly
    slow = threading.Thread(target=directory.read)
    slow.start()
    assert has_read.wait(120)
    with database.write() as connection:
        connection.execute(deployments.delete())
    quick = threading.Thread(target=directory.read)
    quick.start()
    quick.join(0.3)
    may_go_on.set()
    for thread in (slow, quick):
        thread.join()
    try:
        found = directory.target(ME, "d0", None)
    except (NotFound, Unavailable):
        found = None
    assert found is None
    database.close()
