import pytest
from books import NOON, OTHER, PROJECT, books, post, usage
from databases import postgres, sqlite
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse
from sqlalchemy import update

from aimass.billing import buckets, ledger
from aimass.billing.buckets import Buckets
from aimass.billing.usage import Filter, events, totals
from aimass.core.errors import NotFound, UsageError
from aimass.store import tables
from aimass.store.database import sqlite_url
from aimass.store.paging import Page

DAY = 86_400
MIDNIGHT = int(NOON) // DAY * DAY
TRAINING = {"item": "training", "kind": "training", "unit": "worker-ms", "model": "digits", "version": None}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request, tmp_path_factory):
    """Two days of two projects, with a credit and a doubt."""
    url = postgres() if request.param == "postgresql" else sqlite(tmp_path_factory.mktemp("books"))
    with books(url) as database:
        post(
            database,
            usage("p1", quantity=2),
            usage("p2", quantity=3, time=NOON + 60),
            usage("p3", quantity=5, time=NOON + DAY, model="iris"),
            usage("credited", quantity=100, time=NOON + 61),
            usage("doubtful", quantity=1, time=NOON + 62, key="other"),
            usage("theirs", quantity=7, project=OTHER),
            usage("train:job-1:1:0:0", quantity=10_000, time=NOON + 5, **TRAINING),
        )
        with database.write() as connection:
            ledger.credit(connection, ["credited"])
            connection.execute(update(tables.usage_events).where(tables.usage_events.c.id == "doubtful").values(in_doubt=True))
        yield database


def read(database, function, *arguments, **named):
    with database.read() as connection:
        return function(connection, *arguments, **named)


def test_totals_are_by_item_without_what_was_credited(database):
    found = read(database, totals, Filter(project=PROJECT))
    assert [(line["item"], line["events"], line["quantity"], line["amount_micro"], line["in_doubt"]) for line in found["items"]] == [
        ("prediction", 4, 11, 1_100, 1),
        ("training", 1, 10_000, 1_000, 0),
    ]
    assert (found["amount_micro"], found["amount_usd"]) == (2_100, "0.0021")
    assert found["amount_micro"] == read(database, ledger.balance, f"spend:{PROJECT}")


def test_events_come_in_pages_by_time(database):
    seen, after = [], None
    while True:
        page = read(database, events, Filter(project=PROJECT), Page(after=after, limit=2))
        seen += [event["id"] for event in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == ["p3", "doubtful", "credited", "p2", "train:job-1:1:0:0", "p1"]
    rising = read(database, events, Filter(project=PROJECT), Page(order="asc", limit=100))
    assert [event["id"] for event in rising["data"]] == seen[::-1]
    with pytest.raises(NotFound, match="no usage event 'nothing'"):
        read(database, events, Filter(), Page(after="nothing"))


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        ({"item": "training"}, {"train:job-1:1:0:0"}),
        ({"model": "iris"}, {"p3"}),
        ({"key": "other"}, {"doubtful"}),
        ({"in_doubt": True}, {"doubtful"}),
        ({"credited": True}, {"credited"}),
        ({"start": NOON + 61, "end": NOON + DAY}, {"credited", "doubtful"}),
        ({"version": 2}, set()),
    ],
)
def test_events_are_chosen(database, chosen, ids):
    page = read(database, events, Filter(project=PROJECT, **chosen), Page(limit=100))
    assert {event["id"] for event in page["data"]} == ids


def test_usage_has_openais_shape(database):
    asked = Buckets(start_time=MIDNIGHT, end_time=MIDNIGHT + 3 * DAY, group_by=["project_id", "model"])
    page = UsageCompletionsResponse.model_validate(read(database, buckets.usage, "completions", asked), strict=True)
    assert [(bucket.start_time, bucket.end_time) for bucket in page.data] == [
        (MIDNIGHT + day * DAY, MIDNIGHT + (day + 1) * DAY) for day in range(3)
    ]
    first = [(result.project_id, result.model, result.num_model_requests) for result in page.data[0].results]
    assert first == [(PROJECT, "digits", 3), (OTHER, "digits", 1)]
    assert [result.model for result in page.data[1].results] == ["iris"]
    assert page.data[2].results == []


def test_costs_have_openais_shape_and_add_up_to_the_ledger(database):
    asked = Buckets(start_time=MIDNIGHT, end_time=MIDNIGHT + 3 * DAY, group_by=["line_item"])
    raw = read(database, buckets.costs, asked)
    page = UsageCostsResponse.model_validate(raw, strict=True)
    first = [(result.line_item, result.amount.value, result.amount.currency, result.quantity_unit) for result in page.data[0].results]
    assert first == [("prediction", 0.0013, "usd", "row"), ("training", 0.001, "usd", "worker-ms")]
    total = sum(result["amount_micro"] for bucket in raw["data"] for result in bucket["results"])
    assert total == sum(read(database, ledger.balance, f"spend:{project}") for project in (PROJECT, OTHER))


def test_buckets_come_in_pages(database):
    asked = {"start_time": int(NOON), "end_time": int(NOON) + 150, "bucket_width": "1m", "limit": 2}
    first = read(database, buckets.usage, "predictions", Buckets(**asked))
    assert [bucket["results"][0]["num_rows"] for bucket in first["data"]] == [9, 4]
    assert first["has_more"]
    second = read(database, buckets.usage, "predictions", Buckets(**asked, page=first["next_page"]))
    assert [bucket["results"] for bucket in second["data"]] == [[]]
    assert (second["has_more"], second["next_page"]) == (False, None)


def test_training_is_counted_in_the_time_of_workers(database):
    page = read(database, buckets.usage, "training", Buckets(start_time=MIDNIGHT, end_time=MIDNIGHT + 1, project_ids=[PROJECT]))
    assert page["data"][0]["results"] == []
    page = read(database, buckets.usage, "training", Buckets(start_time=MIDNIGHT, end_time=MIDNIGHT + DAY, project_ids=[PROJECT]))
    assert page["data"][0]["results"][0]["worker_ms"] == 10_000
    page = read(database, buckets.usage, "training", Buckets(start_time=MIDNIGHT, end_time=MIDNIGHT + DAY, project_ids=[OTHER]))
    assert page["data"][0]["results"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bucket_width": "1w"}, "no bucket_width '1w'"),
        ({"limit": 32}, "1 to 31"),
        ({"limit": 0}, "1 to 31"),
        ({"group_by": ["colour"]}, "no group 'colour'"),
        ({"page": "page_x"}, "is no page"),
        ({"page": "page_1"}, "is no page"),
        ({"end_time": 5}, "is not after"),
        ({"start_time": -1}, "Unix seconds"),
        ({"end_time": 10**20}, "Unix seconds"),
    ],
)
def test_a_page_that_cannot_be_is_refused(tmp_path, changes, message):
    with books(sqlite_url(tmp_path / "a.db")) as database, pytest.raises(UsageError, match=message):
        read(database, buckets.usage, "completions", Buckets(**{"start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY, **changes}))
