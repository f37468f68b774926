import pytest
from served import CSV, error_of, upload


def test_a_data_set_from_a_file_is_described(member):
    file = upload(member)
    made = member.post("/v1/datasets", json={"file": file["id"], "target": "left", "split": [0.5, 0.25, 0.25], "seed": 3}).json()
    assert (made["name"], made["file"], made["target"], made["task"], made["rows"]) == ("people", file["id"], "left", "binary", 60)
    assert made["columns"]["age"]["kind"] == "numeric"
    assert made["columns"]["city"]["kind"] == "categorical"
    assert made["classes"] == {"no": 40, "yes": 20}
    assert sum(made["split"].values()) == 60
    assert made["split"]["train"] == 30
    assert made["fingerprint"]
    assert member.get(f"/v1/datasets/{made['id']}").json() == made
    assert member.get("/v1/datasets").json()["data"] == [made]


def test_the_settings_of_load_count(member):
    file = upload(member)
    asked = {"file": file["id"], "target": "age", "schema": {"city": "ignored"}, "name": "ages", "task": "regression", "missing": ["?", -9]}
    made = member.post("/v1/datasets", json=asked).json()
    assert (made["name"], made["task"], made["classes"], made["columns"]["city"]["kind"]) == ("ages", "regression", None, "ignored")


def test_a_sample_is_a_data_set(member):
    made = member.post("/v1/datasets", json={"sample": "iris"}).json()
    assert (made["sample"], made["file"], made["rows"], made["task"]) == ("iris", None, 150, "multiclass")


def test_text_is_a_data_set(member):
    made = member.post("/v1/datasets", json={"sample": "python_docs"}).json()
    assert (made["target"], made["task"], made["classes"], list(made["columns"])) == ("text", "language", None, ["text"])
    file = upload(member, content=b"to be or not to be. " * 100, filename="book.txt")
    made = member.post("/v1/datasets", json={"file": file["id"]}).json()
    assert (made["task"], made["columns"]["text"]["notes"]) == ("language", ["windows of 128 bytes, of 2,001 in all"])


def test_a_file_stays_while_a_data_set_is_made_from_it(member):
    file = upload(member)
    made = member.post("/v1/datasets", json={"file": file["id"], "target": "left"}).json()
    assert made["id"] in error_of(member.delete(f"/v1/files/{file['id']}"), 409)["message"]
    assert member.delete(f"/v1/datasets/{made['id']}").json() == {"id": made["id"], "object": "dataset", "deleted": True}
    assert member.delete(f"/v1/files/{file['id']}").status_code == 200


@pytest.mark.parametrize(
    ("content", "asked", "status", "said"),
    [
        (b"", {"target": "a"}, 422, "people.csv is empty"),
        (b"a,b\n", {"target": "a"}, 422, "people.csv has columns and no rows"),
        (b"a,a\n1,2\n3,4\n", {"target": "a"}, 422, "two|2 columns named 'a'"),
        (CSV, {"target": "gone"}, 422, "gone"),
        (CSV, {}, 400, "target"),
        (CSV, {"target": "left", "schema": {"nothing": "numeric"}}, None, "nothing"),
        (CSV, {"target": "left", "split": [0.5, 0.1, 0.1]}, 400, "split"),
        (CSV, {"target": "left", "task": "regression"}, None, "regression"),
        (b"\x00\xff\xfe\x01binary\n", {"target": "a"}, 422, "people.csv"),
    ],
)
def test_data_that_cannot_be_used_is_named_by_its_own_name(service, member, content, asked, status, said):
    import re

    file = upload(member, content)
    answer = member.post("/v1/datasets", json={"file": file["id"], **asked})
    assert answer.status_code in (400, 422)
    error = error_of(answer, status or answer.status_code)
    assert re.search(said, error["message"]), error
    assert str(service.home) not in error["message"]
    assert member.get("/v1/datasets").json()["data"] == []


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({}, 400, None),
        ({"file": "file-x", "sample": "iris"}, 400, None),
        ({"sample": "irises"}, 400, None),
        ({"file": "file-nothing", "target": "x"}, 404, None),
        ({"sample": "iris", "unknown": 1}, 422, "unknown"),
        ({"sample": "iris", "seed": -1}, 422, "seed"),
        ({"sample": "iris", "split": [1]}, 422, "split"),
        ({"sample": "iris", "schema": {"a": "text"}}, 422, "schema.a"),
        ({"sample": 3}, 422, "sample"),
        ([1, 2], 422, None),
        ("text", 422, None),
    ],
)
def test_what_is_asked_wrongly_is_named(member, asked, status, param):
    assert error_of(member.post("/v1/datasets", json=asked), status)["param"] == param
