import time

from databases import database_url  # noqa: F401 - a fixture

from aimass.service.sweeping import named
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
from aimass.store.tables import datasets, files, projects


def test_what_is_named_stays_and_the_rest_goes(tmp_path, database_url):  # noqa: F811
    database, blobs = Database.open(database_url), Blobs(str(tmp_path / "blobs"))
    kept = {name: blobs.put([name.encode()]) for name in ("file", "dataset", "version")}
    lost = blobs.put([b"lost"])
    now = time.time()
    with database.write() as connection:
        connection.execute(projects.insert().values(id="p", name="p", created=now))
        file = {"id": "f", "project_id": "p", "filename": "f", "purpose": "x", "bytes": 1, "sha256": kept["file"].sha256, "created": now}
        connection.execute(files.insert().values(file))
        for number, sha256 in enumerate((kept["dataset"].sha256, None)):
            row = {"id": f"d{number}", "project_id": "p", "name": "d", "sha256": sha256, "settings": {}, "description": {}, "created": now}
            connection.execute(datasets.insert().values(row))
        Registry(database, blobs).publish(
            connection, project="p", name="m", files={"model.json": kept["version"]}, signature={}, card={}, lineage={}
        )
    assert blobs.sweep(named(database), older_than_s=-1) == 1
    assert not blobs.exists(lost.sha256)
    assert all(blobs.exists(blob.sha256) for blob in kept.values())
    database.close()
