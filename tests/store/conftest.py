"""What the tests of the store need: both databases, and something in them."""

import time
from uuid import uuid4

import pytest
from databases import database_url
from store_models import save_model

from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
from aimass.store.tables import projects

__all__ = ["database_url"]


@pytest.fixture
def database(database_url):
    database = Database.open(database_url)
    with database.write() as connection:
        connection.execute(projects.insert().values(id="proj-a", name="a", created=time.time()))
        connection.execute(projects.insert().values(id="proj-b", name="b", created=time.time()))
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path):
    return Blobs(str(tmp_path / "blobs"))


@pytest.fixture
def registry(database, blobs):
    return Registry(database, blobs)


@pytest.fixture(scope="session")
def s3_server():
    """A server that speaks S3, for this test process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of an empty place in a bucket."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    name = f"b{uuid4().hex[:12]}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}/some/where"


@pytest.fixture
def saved_model(tmp_path):
    """The folder of a model, as `Model.save` writes it."""
    return save_model(tmp_path / "model")
