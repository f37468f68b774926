import httpx
import pytest
from databases import postgres
from served import ROW, error_of, get, publish, running, until, upload


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer sk-123"},
        {"authorization": "Bearer am_01m7yqa050ge5mqdq1gkahh8ga_0000"},
        {"authorization": "Bearer am__"},
        {"x-api-key": "am_a_b_c"},
        {"authorization": "Bearer \xff\xfe".encode("latin-1")},
    ],
)
def test_no_good_key_is_401_and_nothing_more_is_told(service, headers):
    error = error_of(get(f"{service.url}/v1/files", headers=headers), 401)
    assert error["type"] == "authentication_error"
    assert error["code"] == "invalid_api_key"
    error_of(httpx.post(f"{service.url}/v1/models/x:predict", headers=headers, json={"instances": []}, timeout=60), 401)


def test_a_mistyped_secret_is_refused(service):
    wrong = service.key[:-1] + ("0" if service.key[-1] != "0" else "1")
    error_of(get(f"{service.url}/v1/files", headers={"authorization": f"Bearer {wrong}"}), 401)
    assert get(f"{service.url}/v1/files", headers={"x-api-key": service.key}).status_code == 200


def test_what_each_role_may_do(service, member):
    with service.new_client("inference", member.project) as inference:
        assert inference.get("/v1/models").status_code == 200
        for path in ("/v1/files", "/v1/datasets", "/v1/registry/models", "/v1/deployments", "/v1/usage"):
            assert error_of(inference.get(path), 403)["code"] == "permission_denied"
    for path in ("/v1/keys", "/v1/projects", "/v1/engines", "/v1/budgets/default", "/v1/organization/costs?start_time=0"):
        assert error_of(member.get(path), 403)["type"] == "permission_error"
    error_of(member.post("/v1/keys", json={"name": "more", "role": "admin"}), 403)
    error_of(member.put("/v1/prices", json={"item": "prediction", "micro_per_million": 0}), 403)


def test_a_key_is_shown_once(admin):
    made = admin.post("/v1/keys", json={"name": "once", "role": "inference"}).json()
    assert made["key"].startswith(f"am_{made['id']}_")
    listed = next(key for key in admin.get("/v1/keys?limit=100").json()["data"] if key["id"] == made["id"])
    assert "key" not in listed
    assert (listed["name"], listed["role"], listed["revoked_at"]) == ("once", "inference", None)


def test_a_revoked_key_is_refused_at_once_and_stays_listed(service, admin):
    with service.new_client() as gone:
        assert gone.get("/v1/files").status_code == 200
        assert admin.delete(f"/v1/keys/{gone.key_id}").json()["revoked_at"] is not None
        error_of(gone.get("/v1/files"), 401)
        assert admin.delete(f"/v1/keys/{gone.key_id}").status_code == 200
    error_of(admin.delete("/v1/keys/nothing"), 404)


def test_an_admin_acts_in_a_project_by_header_and_nobody_else_does(service, admin, member):
    file = upload(member)
    for header in ("OpenAI-Project", "x-aimass-project"):
        assert admin.get(f"/v1/files/{file['id']}", headers={header: member.project}).status_code == 200
    error_of(admin.get(f"/v1/files/{file['id']}"), 404)
    error_of(admin.get("/v1/files", headers={"OpenAI-Project": "nowhere"}), 403)
    error_of(member.get("/v1/files", headers={"OpenAI-Project": "default"}), 403)
    assert member.get("/v1/files", headers={"OpenAI-Project": member.project}).status_code == 200


def test_projects_have_names_of_their_own(admin):
    made = admin.post("/v1/projects", json={"name": "alone"}).json()
    assert admin.get("/v1/projects/alone").json() == made
    assert admin.get(f"/v1/projects/{made['id']}").json()["name"] == "alone"
    assert error_of(admin.post("/v1/projects", json={"name": "alone"}), 409)["code"] == "conflict"
    error_of(admin.get("/v1/projects/nowhere"), 404)
    error_of(admin.post("/v1/keys", json={"name": "x", "project": "nowhere"}), 404)


def check_keys(one, two):
    """What one service knows of keys, the other does."""
    assert one.key is not None
    assert two.key is None
    with one.new_client() as here, two.client(here.key) as there:
        file = upload(here)
        assert until(lambda: there.get(f"/v1/files/{file['id']}").status_code, 200)
        assert there.get(f"/v1/files/{file['id']}/content").content.startswith(b"age,city")
        with one.client() as admin:
            admin.delete(f"/v1/keys/{here.key_id}").raise_for_status()
        assert until(lambda: there.get("/v1/files").status_code, 401)


def test_two_services_on_one_postgresql_share_keys_and_revocations(tmp_path):
    shared = {"database_url": postgres(), "store_url": str(tmp_path / "blobs")}
    with running(tmp_path / "one", **shared) as one, running(tmp_path / "two", **shared) as two:
        check_keys(one, two)


def test_keys_deployments_and_streams_on_two_services_and_one_that_leaves(tmp_path, model_folder):
    shared = {"database_url": f"sqlite:///{tmp_path}/shared.db", "store_url": str(tmp_path / "blobs")}
    with (
        running(tmp_path / "one", **shared) as one,
        running(tmp_path / "two", **shared) as two,
        one.new_client() as here,
        two.client(here.key) as there,
    ):
        check_keys(one, two)
        publish(here, model_folder)
        here.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
        ask = {"instances": [ROW]}
        assert until(lambda: there.post("/v1/models/iris:predict", json=ask).status_code, 200)
        made = here.post("/v1/datasets", json={"sample": "digits"}).raise_for_status().json()
        job = here.post("/v1/training/jobs", json={"dataset": made["id"], "config": {"epochs": 1_000_000}}).raise_for_status().json()
        with there.stream("GET", f"/v1/training/jobs/{job['id']}/events", params={"stream": "true"}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert two.stop() == 0
        here.post(f"/v1/training/jobs/{job['id']}/cancel").raise_for_status()
        assert until(lambda: here.get(f"/v1/training/jobs/{job['id']}").json()["status"], "cancelled")
