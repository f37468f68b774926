import hashlib
import os
from uuid import uuid4

import pytest
from served import CSV, error_of, upload


def test_a_file_goes_up_is_listed_read_and_deleted(member):
    file = upload(member, purpose="fine-tune")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(CSV),
        "created_at": file["created_at"],
        "filename": "people.csv",
        "purpose": "fine-tune",
        "status": "processed",
        "sha256": hashlib.sha256(CSV).hexdigest(),
    }
    assert member.get(f"/v1/files/{file['id']}").json() == file
    assert member.get("/v1/files").json()["data"] == [file]
    content = member.get(f"/v1/files/{file['id']}/content")
    assert content.content == CSV
    assert content.headers["content-length"] == str(len(CSV))
    assert member.delete(f"/v1/files/{file['id']}").json() == {"id": file["id"], "object": "file", "deleted": True}
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error_of(member.request(method, f"/v1/files/{file['id']}{path}"), 404)


def test_parts_of_a_file_by_range(member):
    path = f"/v1/files/{upload(member)['id']}/content"
    for asked, start, end in (("bytes=2-4", 2, 5), ("bytes=10-", 10, None), ("bytes=-7", -7, None), ("bytes=0-9999999", 0, None)):
        answer = member.get(path, headers={"range": asked})
        assert answer.content == CSV[start:end]
        assert answer.status_code == (206 if len(answer.content) < len(CSV) else 200)
    assert member.get(path, headers={"range": "bytes=3-5"}).headers["content-range"] == f"bytes 3-5/{len(CSV)}"
    assert member.get(path, headers={"range": "lines=1-2"}).content == CSV
    assert error_of(member.get(path, headers={"range": "bytes=9999999-"}), 416)["code"] == "range_not_satisfiable"


def test_the_same_bytes_twice_are_two_files_and_one_outlives_the_other(member):
    first, second = upload(member), upload(member)
    assert first["id"] != second["id"]
    member.delete(f"/v1/files/{first['id']}")
    assert member.get(f"/v1/files/{second['id']}/content").content == CSV


def test_lists_go_a_page_at_a_time_newest_first(member):
    ids = [upload(member, b"%d" % number)["id"] for number in range(5)]
    seen, after = [], None
    while True:
        page = member.get("/v1/files", params={"limit": 2, **({"after": after} if after else {})}).json()
        seen += [file["id"] for file in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == ids[::-1]
    assert [file["id"] for file in member.get("/v1/files", params={"order": "asc", "limit": 1}).json()["data"]] == ids[:1]
    assert member.get("/v1/files", params={"purpose": "none"}).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("filename", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\sales.csv", "sales.csv"),
        ("a\x00b.csv", "ab.csv"),
        ("日本.csv", "日本.csv"),
        ("x" * 400, "x" * 255),
    ],
)
def test_a_filename_is_a_label_and_no_path(service, member, filename, label):
    boundary = uuid4().hex
    name = filename.replace("\\", "\\\\").encode()
    body = b'--%b\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\nhello\r\n--%b--\r\n' % (
        boundary.encode(),
        name,
        boundary.encode(),
    )
    file = (
        member.post("/v1/files", content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})
        .raise_for_status()
        .json()
    )
    assert file["filename"] == label
    assert member.get(f"/v1/files/{file['id']}/content").content == b"hello"
    assert not [path for path in service.home.rglob("*") if path.name == label]


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
def test_bytes_of_any_size_come_back_as_they_were(member, size):
    content = os.urandom(size)
    file = upload(member, content, "noise.bin")
    assert (file["bytes"], file["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert member.get(f"/v1/files/{file['id']}/content").content == content


def test_another_projects_file_is_not_there(service, member):
    file = upload(member)
    with service.new_client() as other:
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            error_of(other.request(method, f"/v1/files/{file['id']}{path}"), 404)
        assert other.get("/v1/files").json()["data"] == []
        error_of(other.post("/v1/datasets", json={"file": file["id"], "target": "left"}), 404)


def test_a_form_without_a_file_or_with_two_is_refused(member):
    assert "0 files named 'file'" in error_of(member.post("/v1/files", files={"other": ("a", b"1")}), 400)["message"]
    assert "2 files" in error_of(member.post("/v1/files", files=[("file", ("a", b"1")), ("file", ("b", b"2"))]), 400)["message"]
    assert "purpose" in error_of(member.post("/v1/files", files={"file": ("a", b"1")}, data={"purpose": "x" * 65}), 400)["message"]
    assert member.get("/v1/files").json()["data"] == []
