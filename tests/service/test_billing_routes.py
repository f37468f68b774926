import csv
import io
import time

import pytest
from served import ROW, error_of, publish, until


@pytest.fixture
def used(member, model_folder):
    """A client whose project has 3 predictions of 2 rows to pay for."""
    publish(member, model_folder)
    member.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
    for _ in range(3):
        member.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]}).raise_for_status()
    assert until(lambda: member.get("/v1/usage").json()["amount_micro"], 600)
    return member


def test_usage_events_and_invoice_agree(used):
    totals = used.get("/v1/usage").json()
    assert [(item["item"], item["events"], item["quantity"], item["amount_usd"]) for item in totals["items"]] == [
        ("prediction", 3, 6, "0.0006")
    ]
    invoice = used.get("/v1/invoices").json()
    assert invoice["subtotal_micro"] == sum(line["amount_micro"] for line in invoice["lines"]) == invoice["ledger_micro"] == 600
    for line in invoice["lines"]:
        events = used.get(line["events"]).raise_for_status().json()["data"]
        assert sum(event["amount_micro"] for event in events) == line["amount_micro"]
        assert len(events) == line["num_events"]
    sheet = used.get("/v1/invoices", params={"format": "csv"})
    assert sheet.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    assert [row["amount_micro"] for row in rows] == ["600", "600"]


def test_events_are_paged_and_filtered(used):
    first = used.get("/v1/usage/events", params={"limit": 2}).json()
    rest = used.get("/v1/usage/events", params={"limit": 2, "after": first["last_id"]}).json()
    assert (len(first["data"]), first["has_more"], len(rest["data"]), rest["has_more"]) == (2, True, 1, False)
    assert len({event["id"] for event in first["data"] + rest["data"]}) == 3
    for filters, count in (
        ({"item": "prediction"}, 3),
        ({"item": "training"}, 0),
        ({"model": "iris", "version": 1}, 3),
        ({"version": 2}, 0),
        ({"start": time.time() + 100}, 0),
        ({"in_doubt": True}, 0),
    ):
        assert len(used.get("/v1/usage/events", params=filters).json()["data"]) == count, filters
    error_of(used.get("/v1/usage/events", params={"after": "nothing"}), 404)


def test_another_projects_bill_is_for_admins(admin, used):
    for path in ("/v1/usage", "/v1/usage/events", "/v1/invoices"):
        assert admin.get(path, params={"project": used.project}).status_code == 200
        error_of(used.get(path, params={"project": "default"}), 403)
        error_of(admin.get(path, params={"project": "nowhere"}), 404)
    assert admin.get("/v1/invoices", params={"project": used.project}).json()["subtotal_micro"] == 600


def test_a_budget_holds_and_can_be_lifted(admin, used):
    place = f"/v1/budgets/{used.project}"
    error_of(admin.get(place), 404)
    budget = admin.put(place, json={"limit_usd": "0.0006", "period": "total"}).json()
    assert (budget["limit_micro"], budget["spent_micro"], budget["available_micro"]) == (600, 600, 0)
    assert admin.get(place).json()["period"] == "total"
    ask = {"instances": [ROW]}
    assert until(lambda: used.post("/v1/models/iris:predict", json=ask).status_code, 429)
    assert "budget" in error_of(used.post("/v1/models/iris:predict", json=ask), 429)["message"]
    admin.delete(place).raise_for_status()
    assert until(lambda: used.post("/v1/models/iris:predict", json=ask).status_code, 200)
    error_of(admin.delete(place), 404)
    error_of(admin.put("/v1/budgets/nowhere", json={"limit_usd": "1"}), 404)
    error_of(admin.put(place, json={"limit_usd": "much"}), 400)
    error_of(admin.put(place, json={"limit_usd": "1", "period": "year"}), 422)


def test_prices_are_listed_and_set_for_the_time_to_come(admin, member):
    prices = {price["item"]: price for price in member.get("/v1/prices").json()["data"] if price["current"]}
    assert prices["prediction"]["micro_per_million"] == 100_000_000
    assert prices["training"]["unit"] == "worker-ms"
    made = admin.put("/v1/prices", json={"item": "a-thing", "micro_per_million": 5, "unit": "piece"}).json()
    assert made["id"] in {price["id"] for price in member.get("/v1/prices").json()["data"]}
    error_of(admin.put("/v1/prices", json={"item": "prediction", "micro_per_million": 5, "unit": "gram"}), 400)
    error_of(admin.put("/v1/prices", json={"item": "prediction", "micro_per_million": -1}), 422)


@pytest.mark.parametrize(
    "query",
    ["start_time=x", "start_time=-1", "", "start_time=5&end_time=4", "start_time=0&bucket_width=1y", "start_time=0&group_by=colour"],
)
def test_organization_questions_that_are_off(admin, query):
    answer = admin.get(f"/v1/organization/costs?{query}")
    assert answer.status_code in (400, 422), answer.text
    error_of(answer, answer.status_code)
