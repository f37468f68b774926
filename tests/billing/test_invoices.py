import csv
import io
from urllib.parse import parse_qs, urlsplit

import pytest
from books import NOON, OTHER, PROJECT, balance, books, post, usage
from databases import postgres, sqlite
from sqlalchemy import update

from aimass.billing import ledger, prices
from aimass.billing.invoices import COLUMNS, invoice, to_csv
from aimass.billing.usage import Filter, events
from aimass.core.errors import StorageError, UsageError
from aimass.store import tables
from aimass.store.database import sqlite_url
from aimass.store.paging import Page

DAY = 86_400
TRAINING = {"item": "training", "kind": "training", "unit": "worker-ms", "model": "digits", "version": None}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request, tmp_path_factory):
    """A month with two models, two versions, two prices, a credit, a doubt, and events outside."""
    url = postgres() if request.param == "postgresql" else sqlite(tmp_path_factory.mktemp("books"))
    with books(url) as database:
        with database.write() as connection:
            prices.set_price(connection, "prediction", 300_000_000, now=NOON + DAY)
        post(
            database,
            usage("a", quantity=2),
            usage("b", quantity=3, time=NOON + 7),
            usage("c", version=2),
            usage("d", model="iris"),
            usage("dear", time=NOON + DAY),
            usage("back", quantity=4, time=NOON + 9),
            usage("train:1", quantity=14, **TRAINING),
            usage("train:2", quantity=15, time=NOON + 10, **TRAINING),
            usage("theirs", project=OTHER, quantity=50),
            usage("later", time=NOON + 30 * DAY),
        )
        with database.write() as connection:
            ledger.credit(connection, ["back"])
            connection.execute(update(tables.usage_events).where(tables.usage_events.c.id == "d").values(in_doubt=True))
        yield database


def make(database, **named):
    with database.read() as connection:
        return invoice(connection, PROJECT, **{"now": NOON + DAY, **named})


def follow(database, query):
    """The events that a line leads to."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(query).query).items()}
    numbers = {name: float(asked[name]) for name in ("start", "end")} | ({"version": int(asked["version"])} if "version" in asked else {})
    flags = {name: asked[name] == "true" for name in ("credited", "in_doubt") if name in asked}
    with database.read() as connection:
        return events(connection, Filter(**{**asked, **numbers, **flags}), Page(limit=100))["data"]


def test_the_lines_add_up_to_the_events_and_to_the_ledger(database):
    made = make(database)
    shown = [(line["type"], line["item"], line["model"], line["version"], line["quantity"], line["amount_micro"]) for line in made["lines"]]
    assert sorted(shown, key=str) == sorted(
        [
            ("charge", "prediction", "digits", 1, 9, 900),
            ("charge", "prediction", "digits", 1, 1, 300),
            ("charge", "prediction", "digits", 2, 1, 100),
            ("charge", "prediction", "iris", 1, 1, 100),
            ("charge", "training", "digits", None, 29, 3),
            ("credit", "prediction", "digits", 1, -4, -400),
        ],
        key=str,
    )
    assert made["subtotal_micro"] == sum(line["amount_micro"] for line in made["lines"]) == 1_003
    assert made["subtotal_micro"] == balance(database, f"spend:{PROJECT}", start=made["start"], end=made["end"]) == made["ledger_micro"]
    assert (made["period"], made["subtotal_usd"], made["num_events"], made["final"]) == ("2023-11-01 to 2023-11-30", "0.001003", 8, False)
    assert make(database, now=NOON + 60 * DAY, start=NOON)["final"]


def test_every_line_leads_to_its_events(database):
    made = make(database)
    for line in made["lines"]:
        found = follow(database, line["events"])
        sign = 1 if line["type"] == "charge" else -1
        assert len(found) == line["num_events"]
        assert sign * sum(event["amount_micro"] for event in found) == line["amount_micro"]
        assert sign * sum(event["quantity"] for event in found) == line["quantity"]
    assert made["in_doubt"]["num_events"] == 1
    assert [event["id"] for event in follow(database, made["in_doubt"]["events"])] == ["d"]


def test_an_invoice_is_the_same_whenever_it_is_made(database):
    first, second = make(database), make(database, start=NOON - 5 * DAY, end=NOON + 5 * DAY)
    assert first == make(database)
    assert first["id"] != second["id"]
    assert second["id"] == make(database, start=NOON - 5 * DAY + 60, end=NOON + 5 * DAY - 60)["id"], "a day is whole"


def test_the_csv_has_the_same_columns_and_sums(database):
    made = make(database)
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["amount_micro"] for row in rows[:-1]] == [str(line["amount_micro"]) for line in made["lines"]]
    assert (rows[-1]["type"], rows[-1]["amount_usd"]) == ("subtotal", made["subtotal_usd"])


def test_no_formula_gets_into_a_spreadsheet(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        post(database, usage("a", model="=SUM(A1)"))
        assert "'=SUM(A1)" in to_csv(make(database))


def test_an_invoice_that_does_not_equal_the_ledger_is_not_made(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        post(database, usage("a"))
        with database.write() as connection:
            connection.execute(update(tables.usage_events).values(amount_micro=99))
        with pytest.raises(StorageError, match="no invoice is made"):
            make(database)


def test_a_project_that_used_nothing_owes_nothing(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        made = make(database)
        assert (made["lines"], made["subtotal_usd"]) == ([], "0.00")


@pytest.mark.parametrize(("start", "end"), [(NOON, NOON - DAY), (-1.0, None), (None, 1e18)])
def test_a_period_that_is_none_is_refused(tmp_path, start, end):
    with books(sqlite_url(tmp_path / "a.db")) as database, pytest.raises(UsageError):
        make(database, start=start, end=end)
