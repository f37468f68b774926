import numpy as np
import pytest
import tritonclient.http as triton
from served import ROW, error_of, get, publish, running, until

JSON = {"content-type": "application/json"}


@pytest.fixture
def deployed(member, model_folder):
    """A client whose project answers under the name `iris`."""
    publish(member, model_folder)
    answer = member.post("/v1/deployments", json={"model": "iris"})
    assert answer.raise_for_status().json()["status"] == "ready"
    return member


def test_a_deployment_answers_and_is_moved_and_removed(deployed, model_folder):
    first = deployed.get("/v1/deployments/iris").json()
    assert (first["version"], first["name"], first["model"]) == (1, "iris", "iris")
    answer = deployed.post("/v1/models/iris:predict", json={"instances": [ROW, list(ROW.values())]}).raise_for_status().json()
    assert (answer["model"], answer["version"], len(answer["predictions"])) == ("iris", 1, 2)
    assert answer["predictions"][0] == answer["predictions"][1]
    publish(deployed, model_folder)
    moved = deployed.post("/v1/deployments", json={"model": "iris", "settings": {"latency_ms": 500, "max_batch": 8}}).json()
    assert (moved["id"], moved["version"], moved["settings"]) == (first["id"], 2, {"latency_ms": 500, "max_batch": 8})
    assert deployed.post("/v1/models/iris:predict", json={"instances": [ROW]}).json()["version"] == 2
    assert deployed.post("/v1/models/iris/versions/2:predict", json={"instances": [ROW]}).status_code == 200
    error_of(deployed.post("/v1/models/iris/versions/1:predict", json={"instances": [ROW]}), 404)
    assert [found["id"] for found in deployed.get("/v1/deployments").json()["data"]] == [first["id"]]
    assert deployed.delete(f"/v1/deployments/{first['id']}").json()["deleted"] is True
    error_of(deployed.post("/v1/models/iris:predict", json={"instances": [ROW]}), 404)
    error_of(deployed.get("/v1/deployments/iris"), 404)


def test_versions_are_named_by_number_alias_or_not(deployed, model_folder):
    publish(deployed, model_folder)
    deployed.put("/v1/registry/models/iris/aliases/old", json={"version": 1})
    for asked, version in (({"alias": "old"}, 1), ({"version": 2}, 2), ({"alias": "old", "name": "elsewhere"}, 1)):
        made = deployed.post("/v1/deployments", json={"model": "iris", **asked}).raise_for_status().json()
        assert made["version"] == version
    assert {model["id"] for model in deployed.get("/v1/models").json()["data"]} == {"iris", "elsewhere"}
    error_of(deployed.post("/v1/deployments", json={"model": "iris", "alias": "gone"}), 404)
    error_of(deployed.post("/v1/deployments", json={"model": "iris", "version": 9}), 404)
    error_of(deployed.post("/v1/deployments", json={"model": "iris", "version": 1, "alias": "old"}), 400)


def test_one_that_does_not_wait_is_ready_soon(member, model_folder):
    publish(member, model_folder, "later")
    made = member.post("/v1/deployments?wait=false", json={"model": "later"}).raise_for_status().json()
    assert made["status"] in ("loading", "ready")

    def status():
        answer = member.post("/v1/models/later:predict", json={"instances": [ROW]})
        if answer.status_code != 200:
            assert error_of(answer, 503)["code"] == "unavailable"
            assert int(answer.headers["retry-after-ms"]) > 0
        return answer.status_code

    assert until(status, 200)


def test_another_projects_deployment_is_not_there(service, deployed):
    made = deployed.get("/v1/deployments/iris").json()
    with service.new_client() as other:
        error_of(other.get(f"/v1/deployments/{made['id']}"), 404)
        error_of(other.delete(f"/v1/deployments/{made['id']}"), 404)
        error_of(other.post("/v1/models/iris:predict", json={"instances": [ROW]}), 404)
        error_of(other.get("/v2/models/iris"), 404)
        assert other.post("/v2/repository/index").json() == []


def test_the_open_inference_protocol_beside_inference(service, deployed):
    metadata = deployed.get("/v2/models/iris").json()
    assert metadata == deployed.get("/v2/models/iris/versions/1").json()
    assert [found["name"] for found in metadata["inputs"]] == list(ROW)
    assert [found["name"] for found in metadata["outputs"]] == ["prediction", "probability", "probabilities"]
    assert deployed.get("/v2/models/iris/ready").json() == {"name": "iris", "ready": True}
    assert deployed.post("/v2/repository/index").json() == [{"name": "iris", "version": "1", "state": "READY", "reason": ""}]
    asked = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": list(ROW.values())}]}
    assert deployed.post("/v2/models/iris/infer", json=asked).raise_for_status().json()["model_name"] == "iris"
    assert deployed.post("/v2/repository/models/iris/unload").json() == {"name": "iris", "ready": False}
    assert deployed.get("/v2/models/iris/ready").status_code == 503
    assert deployed.post("/v2/repository/models/iris/load").json() == {"name": "iris", "ready": True}
    assert deployed.get("/v2/models/iris/versions/1/ready").status_code == 200
    error_of(deployed.get("/v2/models/iris/versions/7/ready"), 404)
    error_of(deployed.get("/v2/models/nothing"), 404)
    error_of(get(f"{service.url}/v2/models/iris"), 401)


def test_tritons_client_can_say_what_was_wrong(deployed, service):
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    wrong = triton.InferInput("sepal length (cm)", [1], "FP64")
    wrong.set_data_from_numpy(np.array([5.1]))
    headers = {"Authorization": deployed.headers["authorization"]}
    with pytest.raises(triton.InferenceServerException, match="sepal width"):
        client.infer("iris", [wrong], headers=dict(headers))
    with pytest.raises(triton.InferenceServerException, match="nothing"):
        client.get_model_metadata("nothing", headers=dict(headers))
    client.close()


def test_engines_tell_how_they_stand(deployed, admin):
    deployed.post("/v1/models/iris:predict", json={"instances": [ROW]}).raise_for_status()
    engine = admin.get("/v1/engines").raise_for_status().json()["data"][0]
    assert engine["state"] in ("ready", "busy")
    assert engine["requests"] >= 1
    assert {"started", "ready", "loaded"} <= {event["type"] for event in engine["history"]}


def test_predictions_that_cannot_be_made_are_named(deployed):
    for instances, status, said in (
        ([{**ROW, "petal width (cm)": "wide"}], 422, "petal width"),
        ([{"sepal length (cm)": 1}], 422, "sepal width"),
        ([[1, 2]], 422, ""),
        ("rows", None, "instances"),
    ):
        answer = deployed.post("/v1/models/iris:predict", json={"instances": instances})
        assert answer.status_code in (400, 422)
        assert said in error_of(answer, status or answer.status_code)["message"]
    error_of(deployed.post("/v1/models/iris:predict", content=b'{"instances": [NaN]}', headers=JSON), 400)
    error_of(deployed.post("/v1/models/iris:predict", content=b"x=1", headers={"content-type": "text/plain"}), 415)
    error_of(deployed.post("/v1/models/none:predict", json={"instances": [ROW]}), 404)
    assert deployed.get("/v1/usage").json()["amount_micro"] == 0


def test_what_was_deployed_answers_after_a_restart(tmp_path, model_folder):
    with running(tmp_path) as service, service.client() as client:
        publish(client, model_folder)
        client.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
        before = client.post("/v1/models/iris:predict", json={"instances": [ROW]}).raise_for_status().json()
        key = service.key
    with running(tmp_path) as service:
        service.key = key
        with service.client() as client:
            ask = lambda: client.post("/v1/models/iris:predict", json={"instances": [ROW]})  # noqa: E731
            assert until(lambda: ask().status_code, 200)
            assert ask().json() == before
            assert until(lambda: client.get("/v1/usage").json()["items"][0]["quantity"], 3)
