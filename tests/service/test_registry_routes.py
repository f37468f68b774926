import io
import tarfile

import pytest
from served import error_of, publish


def test_a_saved_model_becomes_versions(member, model_folder):
    first, second = publish(member, model_folder), publish(member, model_folder)
    assert (first["version"], second["version"]) == (1, 2)
    assert set(first["files"]) == {path.name for path in model_folder.iterdir()}
    assert first["bytes"] == sum(path.stat().st_size for path in model_folder.iterdir())
    assert first["signature"]["target"] == "target"
    model = member.get("/v1/registry/models/iris").json()
    assert (model["newest"], model["aliases"]) == (2, {})
    assert [version["version"] for version in member.get("/v1/registry/models/iris/versions").json()["data"]] == [2, 1]
    assert member.get("/v1/registry/models/iris/versions/1").json() == first
    assert member.get("/v1/registry/models/iris/versions/newest").json() == second
    assert [model["name"] for model in member.get("/v1/registry/models").json()["data"]] == ["iris"]


def test_files_of_a_version_are_read(member, model_folder):
    publish(member, model_folder)
    for path in model_folder.iterdir():
        answer = member.get(f"/v1/registry/models/iris/versions/1/files/{path.name}")
        assert answer.content == path.read_bytes()
    for path in ("nothing", "..%2F..%2Faimass.db", "%2Fetc%2Fpasswd"):
        error_of(member.get(f"/v1/registry/models/iris/versions/1/files/{path}"), 404)


def test_aliases_move(member, model_folder):
    publish(member, model_folder)
    publish(member, model_folder)
    place = "/v1/registry/models/iris/aliases/production"
    assert member.put(place, json={"version": 1}).json()["version"] == 1
    assert member.get("/v1/registry/models/iris/versions/production").json()["version"] == 1
    assert member.put(place, json={"version": 2}).json()["version"] == 2
    assert member.get("/v1/registry/models/iris").json()["aliases"] == {"production": 2}
    error_of(member.put(place, json={"version": 3}), 404)
    error_of(member.put(place, json={"version": 0}), 422)
    error_of(member.put("/v1/registry/models/iris/aliases/a b", json={"version": 1}), 400)
    assert member.delete(place).json()["deleted"] is True
    error_of(member.delete(place), 404)
    error_of(member.get("/v1/registry/models/iris/versions/production"), 404)


def test_an_archive_of_a_model_is_a_version(member, model_folder):
    for mode, name, prefix in (("w", "m.tar", "."), ("w:gz", "m.tar.gz", "iris")):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as archive:
            archive.add(model_folder, arcname=prefix)
        answer = member.post("/v1/registry/models/packed/versions", files={"file": (name, packed.getvalue())})
        assert set(answer.raise_for_status().json()["files"]) == {path.name for path in model_folder.iterdir()}


def _archive(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, target in members:
            found = tarfile.TarInfo(name)
            found.type, found.linkname = kind, target
            archive.addfile(found)
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        _archive(("../outside", tarfile.REGTYPE, "")),
        _archive(("/etc/outside", tarfile.REGTYPE, "")),
        _archive(("link", tarfile.SYMTYPE, "/etc/passwd")),
        _archive(("device", tarfile.CHRTYPE, "")),
        _archive(*((f"f{number}", tarfile.REGTYPE, "") for number in range(200))),
        _archive(("empty", tarfile.REGTYPE, "")),
        _archive(),
    ],
)
def test_archives_that_are_no_model_are_refused(service, member, content):
    answer = member.post("/v1/registry/models/bad/versions", files={"file": ("m.tar", content)})
    assert answer.status_code in (400, 404, 422), answer.text
    assert str(service.home) not in answer.text
    error_of(member.get("/v1/registry/models/bad"), 404)


@pytest.mark.parametrize(
    "parts",
    [
        [("file", ("model.json", b"{}")), ("file", ("model.safetensors", b"x"))],
        [("file", ("model.json", b"no json"))],
        [("file", ("a.csv", b"a,b"))],
        [("file", ("model.json", b"{}")), ("file", ("model.json", b"{}"))],
        [("purpose", (None, b"x"))],
    ],
)
def test_files_that_are_no_model_are_refused(service, member, parts):
    answer = member.post("/v1/registry/models/bad/versions", files=parts)
    assert answer.status_code in (400, 404, 422), answer.text
    assert error_of(answer, answer.status_code)["message"]
    assert str(service.home) not in answer.text


@pytest.mark.parametrize("name", ["..", "a b", "a/b", "-x", "%2e%2e"])
def test_names_that_are_no_names_are_refused(member, model_folder, name):
    parts = [("file", (path.name, path.read_bytes())) for path in model_folder.iterdir()]
    answer = member.post(f"/v1/registry/models/{name}/versions", files=parts)
    assert answer.status_code in (400, 404, 405), answer.text


def test_another_projects_model_is_not_there(service, member, model_folder):
    publish(member, model_folder)
    with service.new_client() as other:
        for path in ("", "/versions", "/versions/1", "/versions/1/files/model.json"):
            error_of(other.get(f"/v1/registry/models/iris{path}"), 404)
        assert publish(other, model_folder)["version"] == 1
        error_of(other.post("/v1/deployments", json={"model": "mine"}), 404)


@pytest.mark.parametrize("name", ["..", ".", "a/..", "\u65e5" * 200])
def test_a_file_whose_name_is_none_is_refused(member, model_folder, name):
    parts = [("file", (name, b"{}")), ("file", ("model.safetensors", (model_folder / "model.safetensors").read_bytes()))]
    answer = member.post("/v1/registry/models/iris/versions", files=parts)
    assert answer.status_code in (400, 422), answer.text
    error_of(answer, answer.status_code)
