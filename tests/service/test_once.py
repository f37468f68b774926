import threading
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
from books import PROJECT, books
from databases import database_url  # noqa: F401 - a fixture
from served import ROW, error_of, publish, upload

from aimass.billing import budgets
from aimass.core.errors import Conflict
from aimass.service.once import Answers, Stored, claim_of
from aimass.service.routes.predict import _charge
from aimass.store.database import Database
from aimass.store.tables import idempotency


def once(key=None):
    return {"idempotency-key": key or uuid4().hex}


def test_the_same_request_again_is_answered_again_and_not_done(member):
    headers = once()
    first = member.post("/v1/datasets", json={"sample": "iris"}, headers=headers)
    again = member.post("/v1/datasets", json={"sample": "iris"}, headers=headers)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert len(member.get("/v1/datasets").json()["data"]) == 1
    assert member.post("/v1/datasets", json={"sample": "iris"}, headers=once()).json()["id"] != first.json()["id"]


def test_the_key_stands_for_one_request_of_one_project(service, member):
    headers = once()
    member.post("/v1/datasets", json={"sample": "iris"}, headers=headers).raise_for_status()
    assert "another request" in error_of(member.post("/v1/datasets", json={"sample": "wine"}, headers=headers), 409)["message"]
    with service.new_client() as other:
        answer = other.post("/v1/datasets", json={"sample": "wine"}, headers=headers)
        assert answer.status_code == 200
        assert "idempotent-replayed" not in answer.headers


def test_errors_of_the_request_are_answered_again(member):
    headers = once()
    for replayed in (None, "true"):
        answer = member.post("/v1/datasets", json={"sample": "nothing"}, headers=headers)
        error_of(answer, 400)
        assert answer.headers.get("idempotent-replayed") == replayed


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_key_that_is_none_is_refused(member, key):
    error_of(member.post("/v1/datasets", json={"sample": "iris"}, headers={"idempotency-key": key}), 400)


def test_an_upload_is_kept_once_whatever_its_boundaries(member):
    headers = once()
    first = member.post("/v1/files", files={"file": ("a.csv", b"a,b\n1,2\n")}, headers=headers)
    again = member.post("/v1/files", files={"file": ("a.csv", b"a,b\n1,2\n")}, headers=headers)
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len(member.get("/v1/files").json()["data"]) == 1
    error_of(member.post("/v1/files", files={"file": ("a.csv", b"other")}, headers=headers), 409)


def test_a_version_is_published_once(member, model_folder):
    parts = [("file", (path.name, path.read_bytes())) for path in sorted(model_folder.iterdir())]
    headers = once()
    answers = [member.post("/v1/registry/models/iris/versions", files=parts, headers=headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert member.get("/v1/registry/models/iris").json()["newest"] == 1


def test_a_keys_secret_is_not_kept_for_the_second_answer(admin):
    headers = once()
    first = admin.post("/v1/keys", json={"name": "twice"}, headers=headers).json()
    again = admin.post("/v1/keys", json={"name": "twice"}, headers=headers).json()
    assert first["key"].startswith("am_")
    assert again == {**first, "key": None}


def test_a_prediction_is_charged_once(member, model_folder):
    publish(member, model_folder)
    member.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
    headers = once()
    first = member.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]}, headers=headers)
    assert member.get("/v1/usage").json()["items"][0]["quantity"] == 2  # in the ledger before the answer came
    again = member.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]}, headers=headers)
    assert (first.status_code, again.json(), again.headers["idempotent-replayed"]) == (200, first.json(), "true")
    error_of(member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=headers), 409)
    assert member.get("/v1/usage").json()["items"][0]["quantity"] == 2


def test_a_prediction_that_failed_may_be_asked_again_under_its_key(member, model_folder):
    headers = once()
    error_of(member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=headers), 404)
    publish(member, model_folder)
    member.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
    error_of(member.post("/v1/models/iris:predict", json={"instances": [{}]}, headers=headers), 422)
    assert member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=headers).status_code == 200


def test_a_prediction_beyond_the_budget_is_refused_and_not_kept(admin, member, model_folder):
    publish(member, model_folder)
    member.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
    admin.put(f"/v1/budgets/{member.project}", json={"limit_usd": "0.00015"}).raise_for_status()
    headers = once()
    assert member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=once()).status_code == 200
    assert error_of(member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=headers), 429)["code"] == "insufficient_quota"
    admin.delete(f"/v1/budgets/{member.project}").raise_for_status()
    answer = member.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers=headers)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    assert member.get("/v1/usage").json()["items"][0]["quantity"] == 2


def test_many_at_once_do_it_once(member, service):
    headers, answers = once(), []

    def ask():
        with service.client(member.key) as client:
            answers.append(client.post("/v1/files", files={"file": ("a", b"x" * 100_000)}, headers=headers))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(member.get("/v1/files").json()["data"]) == 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert "under way" in error_of(answer, 409)["message"]
            assert int(answer.headers["retry-after"]) >= 1


def test_claims_on_both_databases(database_url):  # noqa: F811
    database = Database.open(database_url)
    answers = Answers(database)
    mine, other = claim_of("p", "k", b"one"), claim_of("p", "k", b"two")
    assert answers.claim(mine) is None
    with pytest.raises(Conflict, match="under way"):
        answers.claim(mine)
    with pytest.raises(Conflict, match="another request"):
        answers.claim(other)
    with database.write() as connection:  # its holder died, and the lease ran out
        connection.execute(idempotency.update().values(lease_until=time.time() - 1))
    assert answers.claim(mine) is None
    with database.write() as connection:
        answers.keep(connection, mine, Stored(200, b"{}", {"x": "y"}))
    assert answers.claim(mine) == Stored(200, b"{}", {"x": "y"})
    with pytest.raises(Conflict, match="meanwhile"), database.write() as connection:
        answers.keep(connection, mine, Stored(200, b"late"))
    with database.write() as connection:
        connection.execute(idempotency.update().values(created=time.time() - 90_000))
    assert answers.claim(other) is None
    answers.forget(other)
    assert answers.claim(mine) is None
    database.close()


def test_an_upload_without_a_key_is_no_business_of_it(member):
    assert upload(member)["id"] != upload(member)["id"]


def test_a_prediction_is_charged_under_the_longest_name_of_a_request(database_url):  # noqa: F811
    caller, target = SimpleNamespace(project=PROJECT, key="key"), SimpleNamespace(name="digits", version=1)
    with books(database_url) as database:
        with database.write() as connection:
            budgets.set_budget(connection, PROJECT, limit_micro=100)
        reply = SimpleNamespace(rows=1, json_length=0)
        _charge(SimpleNamespace(database=database), caller, target, None, reply, b"{}", "r" * 128)
        with database.read() as connection:
            assert budgets.standing(connection, PROJECT).spent_micro == 100
