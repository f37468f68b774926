"""The registry: numbers, aliases and cards, on SQLite and on PostgreSQL alike."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from store_models import SIGNATURE

from aimass.core.errors import NotFound, UsageError
from aimass.store.paging import Page
from aimass.store.sweep import sweep
from aimass.store.tables import datasets, files, models, projects


def publish(registry, database, blobs, name="churn", content=b"weights", project="proj-a"):
    blob = blobs.put([content])
    with database.write() as connection:
        return registry.publish(
            connection, project=project, name=name, files={"model.json": blob}, signature=SIGNATURE, card={}, lineage={}
        )


def test_a_saved_model_becomes_version_1(registry, blobs, saved_model):
    version = registry.add("proj-a", "churn", saved_model, card={"metrics": {"accuracy": 0.9}}, lineage={"run": "run-1"})
    assert (version.number, version.model, version.project, version.signature) == (1, "churn", "proj-a", SIGNATURE)
    assert set(version.files) == {"model.json", "model.safetensors"}
    assert version.bytes == sum(file.stat().st_size for file in saved_model.iterdir())
    assert registry.version("proj-a", "churn") == version
    assert registry.version_by_id(version.id) == version
    with blobs.open(version.files["model.json"].sha256) as file:
        assert file.read() == (saved_model / "model.json").read_bytes()


def test_a_reference_is_a_number_an_alias_or_the_newest(registry, database, blobs):
    first, second = (publish(registry, database, blobs) for _ in range(2))
    assert registry.set_alias("proj-a", "churn", "production", 1).aliases == ("production",)
    assert [registry.version("proj-a", "churn", ref).id for ref in (1, "1", "production", 2, None)] == [first.id] * 3 + [second.id] * 2


@pytest.mark.parametrize("ref", [0, -1, 3, "3", "champion", 10**30, "9" * 40])
def test_an_unknown_version_says_which_there_are(registry, database, blobs, ref):
    publish(registry, database, blobs)
    publish(registry, database, blobs)
    registry.set_alias("proj-a", "churn", "production", 1)
    with pytest.raises(NotFound, match="1 to 2, and the aliases production"):
        registry.version("proj-a", "churn", ref)


def test_another_projects_model_is_not_there(registry, database, blobs):
    publish(registry, database, blobs)
    for ask in (registry.model, registry.version, lambda *to: registry.versions(*to, Page()), lambda *to: registry.set_alias(*to, "x", 1)):
        with pytest.raises(NotFound, match="no model 'churn'"):
            ask("proj-b", "churn")
    assert registry.models("proj-b", Page()) == ([], False)
    with pytest.raises(NotFound, match="which has none yet"):
        registry.model("proj-b", "churn")
    with pytest.raises(NotFound, match=r"no model 'chrun' in this project; did you mean 'churn'\? There are: churn$"):
        registry.model("proj-a", "chrun")
    assert publish(registry, database, blobs, project="proj-b").number == 1


def test_lists_come_newest_first_and_go_on_after_an_id(registry, database, blobs):
    made = [publish(registry, database, blobs).id for _ in range(5)]
    page, more = registry.versions("proj-a", "churn", Page(limit=2))
    assert ([version.id for version in page], more) == (made[:2:-1], True)
    rest, more = registry.versions("proj-a", "churn", Page(limit=3, after=page[-1].id))
    assert ([version.id for version in rest], more) == (made[2::-1], False)
    rising, _ = registry.versions("proj-a", "churn", Page(order="asc", after=made[1]))
    assert [version.id for version in rising] == made[2:]


def test_numbers_have_no_holes_and_no_doubles_when_many_publish(registry, database, blobs):
    blob = blobs.put([b"weights"])

    def one(turn):
        try:
            with database.write() as connection:
                version = registry.publish(
                    connection, project="proj-a", name="churn", files={"a": blob}, signature={}, card={"turn": turn}, lineage={}
                )
                if turn % 3 == 0:
                    raise InterruptedError  # the caller's transaction fails after the number was given
                return version.number
        except InterruptedError:
            return None

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for number in pool.map(one, range(60)) if number is not None]
    assert sorted(numbers) == list(range(1, 41))
    assert registry.model("proj-a", "churn").newest == 40


def test_a_failed_first_version_leaves_no_model(registry, database, blobs):
    with pytest.raises(InterruptedError), database.write() as connection:
        registry.publish(connection, project="proj-a", name="churn", files={"a": blobs.put([b""])}, signature={}, card={}, lineage={})
        raise InterruptedError
    with pytest.raises(NotFound):
        registry.model("proj-a", "churn")


def test_an_alias_points_somewhere_at_every_moment(registry, database, blobs):
    for _ in range(3):
        publish(registry, database, blobs)
    registry.set_alias("proj-a", "churn", "production", 1)

    def move(turn):
        return registry.set_alias("proj-a", "churn", "production", turn % 3 + 1).number

    def look(_):
        version = registry.version("proj-a", "churn", "production")
        return version.number, version.aliases

    with ThreadPoolExecutor(4) as pool:
        moves, looks = pool.map(move, range(40)), pool.map(look, range(40))
        assert all(number in (1, 2, 3) and names == ("production",) for number, names in looks)
        assert set(moves) == {1, 2, 3}
    assert len(registry.model("proj-a", "churn").aliases) == 1


def test_an_alias_goes_and_its_version_stays(registry, database, blobs):
    publish(registry, database, blobs)
    registry.set_alias("proj-a", "churn", "production", 1)
    registry.delete_alias("proj-a", "churn", "production")
    assert registry.version("proj-a", "churn", 1).aliases == ()
    with pytest.raises(NotFound, match="no alias 'production'; it has: none"):
        registry.delete_alias("proj-a", "churn", "production")
    with pytest.raises(NotFound, match="no version '2'"):
        registry.set_alias("proj-a", "churn", "production", 2)


@pytest.mark.parametrize("alias", ["", "3", "a/b", "..", "x" * 65, "a b", "-a"])
def test_an_alias_that_could_be_something_else_is_refused(registry, database, blobs, alias):
    publish(registry, database, blobs)
    with pytest.raises(UsageError, match="cannot be an alias"):
        registry.set_alias("proj-a", "churn", alias, 1)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a:predict", "x" * 129, "a b", ".a", "a\n", "a\x00"])
def test_a_name_that_no_address_can_hold_is_refused(registry, saved_model, name):
    with pytest.raises(UsageError, match="cannot name a model"):
        registry.add("proj-a", name, saved_model)


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "a//b", ".", "..", "", "a\\..\\b", "C:a", ".ssh/keys", "a\x00b", "a\nb"]
)
def test_a_path_that_leaves_the_folder_is_refused(registry, database, blobs, path):
    files = {"model.json": blobs.put([b"{}"]), path: blobs.put([b"evil"])}
    with pytest.raises(UsageError, match="cannot be the path"), database.write() as connection:
        registry.publish(connection, project="proj-a", name="churn", files=files, signature={}, card={}, lineage={})
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(models)) == 0


def test_a_version_without_files_is_refused(registry, database):
    with pytest.raises(UsageError, match="needs files"), database.write() as connection:
        registry.publish(connection, project="proj-a", name="churn", files={}, signature={}, card={}, lineage={})


def test_a_version_refers_to_a_project_that_is_there(registry, database, blobs):
    with pytest.raises(IntegrityError):
        publish(registry, database, blobs, project="proj-none")


ADD = """
import sys
from pathlib import Path
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
url, store, folder = sys.argv[1:]
registry = Registry(Database(url), Blobs(store))
print("ready", flush=True)
while True:
    print(registry.add("proj-a", "churn", Path(folder)).number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_whole_versions_alone(registry, database, database_url, blobs, saved_model, tmp_path):
    told = 0
    for turn in range(5):
        arguments = [sys.executable, "-c", ADD, database_url, str(tmp_path / "blobs"), str(saved_model)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            if turn % 2:
                told = int(writer.stdout.readline())
            time.sleep(0.03 + 0.017 * turn)
            os.kill(writer.pid, signal.SIGKILL)
            told = max([told, *(int(line) for line in writer.stdout.read().splitlines())])
    made, _ = registry.versions("proj-a", "churn", Page(limit=10_000, order="asc"))
    numbers = [version.number for version in made]
    assert numbers == list(range(1, len(made) + 1))
    assert told <= len(made) == registry.model("proj-a", "churn").newest
    for version in made:
        assert all(blobs.check(blob.sha256) == blob for blob in version.files.values())


def test_the_sweep_keeps_what_a_version_a_file_or_a_data_set_has(registry, database, blobs, saved_model):
    version = registry.add("proj-a", "churn", saved_model)
    file, dataset, loose = (blobs.put([content]) for content in (b"file", b"dataset", b"loose"))
    with database.write() as connection:
        row = {"id": "file-1", "project_id": "proj-a", "filename": "a", "purpose": "p", "bytes": 4, "created": 0}
        connection.execute(files.insert().values(sha256=file.sha256, **row))
        row = {"id": "ds-1", "project_id": "proj-a", "name": "a", "settings": {}, "description": {}, "created": 0}
        connection.execute(datasets.insert().values(sha256=dataset.sha256, **row))
        connection.execute(datasets.insert().values(**{**row, "id": "ds-2"}, sample="digits"))
    assert sweep(database, blobs) == 0
    assert sweep(database, blobs, older_than_s=-5) == 1
    assert not blobs.exists(loose.sha256)
    for blob in (file, dataset, *version.files.values()):
        assert blobs.check(blob.sha256) == blob


def test_the_sweep_of_a_new_database_leaves_what_was_in_the_store_before_it(database, blobs):
    before = blobs.put([b"before"])
    with database.write() as connection:
        connection.execute(projects.update().values(created=time.time() + 60))
    assert sweep(database, blobs, older_than_s=-120) == 0
    assert blobs.exists(before.sha256)
