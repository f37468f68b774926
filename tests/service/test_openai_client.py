"""The stock `openai` client talks to the service."""

import time
import warnings

import pytest
from served import CSV, ROW, publish, until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openai


@pytest.fixture
def stock(service, member):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=member.key, max_retries=0) as client:
        yield client


@pytest.fixture
def organization(service):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", admin_api_key=service.key, max_retries=0) as client:
        yield client.admin.organization.usage


def test_files_go_up_are_paged_read_and_deleted(stock):
    made = [stock.files.create(file=(f"{number}.csv", CSV), purpose="fine-tune") for number in range(3)]
    assert made[0].object == "file"
    assert made[0].status == "processed"
    assert [file.id for file in stock.files.list(limit=2)] == [file.id for file in made[::-1]]
    assert stock.files.retrieve(made[0].id) == made[0]
    assert stock.files.content(made[0].id).read() == CSV
    assert stock.files.delete(made[0].id).deleted is True
    with pytest.raises(openai.NotFoundError) as raised:
        stock.files.retrieve(made[0].id)
    assert raised.value.code == "not_found"
    assert raised.value.request_id.startswith("req-")


def test_models_are_listed_and_retrieved(stock, member, model_folder):
    for name in ("first", "second"):
        publish(member, model_folder, name)
    assert [model.id for model in stock.models.list()] == ["second", "first"]
    found = stock.models.retrieve("first")
    assert (found.object, found.id) == ("model", "first")
    with pytest.raises(openai.NotFoundError):
        stock.models.retrieve("third")


def test_a_bad_key_is_an_authentication_error(service):
    with (
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="am_wrong_key", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_usage_and_costs_are_read(organization, member, model_folder):
    publish(member, model_folder)
    member.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
    for _ in range(3):
        member.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]}).raise_for_status()
    assert until(lambda: member.get("/v1/usage").json()["amount_micro"], 600)
    asked = {"start_time": int(time.time()) - 86400, "project_ids": [member.project]}
    page = organization.completions(**asked, group_by=["project_id", "model"], bucket_width="1d")
    results = [result for bucket in page.data for result in bucket.results]
    assert {(result.model, result.project_id) for result in results} == {("iris", member.project)}
    assert sum(result.num_model_requests for result in results) == 3  # on one day, or on two
    page = organization.costs(**asked, group_by=["line_item"])
    costs = [result for bucket in page.data for result in bucket.results]
    assert {(cost.line_item, cost.amount.currency) for cost in costs} == {("prediction", "usd")}
    assert (sum(cost.quantity for cost in costs), sum(cost.amount.value for cost in costs)) == (6.0, pytest.approx(0.0006))
    assert organization.costs(start_time=asked["start_time"], project_ids=["proj-nowhere"]).data[0].results == []
    first = organization.completions(start_time=asked["start_time"], bucket_width="1h", limit=1)
    assert first.has_more
    assert organization.completions(start_time=asked["start_time"], bucket_width="1h", limit=1, page=first.next_page).data
