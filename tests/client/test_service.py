"""The client against a real service: what it sends is what is understood there."""

import asyncio
import threading

import pytest
from services import running_service

from aimass import AsyncClient, Client
from aimass.core.errors import Conflict, DataError, Forbidden, NotFound, Unauthorized, UsageError

CSV = "age,plan,churn\n" + "20,gold,no\n70,free,yes\n35,free,no\n66,gold,yes\n" * 50
CONFIG = {"epochs": 3, "model": {"name": "linear"}}
TRANSFORMER = {"name": "transformer", "layers": 1, "heads": 1, "width": 16, "context": 16}
CNN, TWO = {"name": "cnn", "channels": [4], "hidden": [8]}, {"name": "ensemble", "models": 2}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running_service(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def client(service):
    with Client(service.url, service.key) as found:
        yield found


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "customers.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def churn(client, csv):
    """A deployed model, trained on first use."""
    if "churn" not in client.served():
        data = client.datasets.create(file=client.files.upload(csv).id, target="churn", schema={"plan": "categorical"}, seed=3)
        client.jobs.create(dataset=data.id, model="churn", config=CONFIG).wait(timeout_s=250)
        client.deployments.create(model="churn")
    return "churn"


def test_the_whole_way(client, csv, tmp_path, churn):
    import aimass

    (job,) = [job for job in client.jobs.list() if job.model == "churn"]
    assert (job.status, job.result.version, job.config["stop"]["epochs"]) == ("succeeded", 1, 3)
    seqs = [event.seq for event in job.events()]
    assert seqs == sorted(set(seqs)) == [event.seq for event in client.jobs.history(job.id)]
    assert [event.seq for event in job.events(after=seqs[2])] == seqs[3:]

    version = client.models.version("churn")
    assert (version.version, version.model, version.lineage["job"]) == (1, "churn", job.id)
    assert version.bytes == sum(file.bytes for file in version.files.values())
    model = aimass.load(client.models.download("churn", tmp_path / "model"))
    rows = [{"age": 70, "plan": "free"}, {"age": 20, "plan": None}]
    answers = client.predict("churn", rows)
    for answer, expected in zip(answers, model.predict(rows), strict=True):
        assert answer["prediction"] == expected["prediction"]
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-9)
    assert client.predict("churn", [[70, "free"], [20, None]]) == answers
    assert client.usage()["object"] == "usage"


def test_texts_and_images_are_learnt_by_jobs_and_answered(client, tmp_path):
    import aimass

    (tmp_path / "poem.txt").write_text("a rose is a rose is a rose. " * 60)
    poem = client.datasets.create(file=client.files.upload(tmp_path / "poem.txt").id)
    digits = client.datasets.create(sample="digits")
    jobs = [
        client.jobs.create(dataset=poem.id, model="poet", config={"epochs": 1, "model": TRANSFORMER}),
        client.jobs.create(dataset=digits.id, model="reader", config={"epochs": 1, "model": CNN, "strategy": TWO}),
    ]
    assert ["test" in job.wait(timeout_s=240).metrics for job in jobs] == [True, True]
    poet, reader = (aimass.load(client.models.download(name, tmp_path / name)) for name in ("poet", "reader"))
    assert (poet.config.name, reader.config.name, reader.config.member.name) == ("transformer", "ensemble", "cnn")
    for name in ("poet", "reader"):
        client.deployments.create(model=name)
    texts = [{"text": "a rose"}, {"text": ""}]
    assert client.predict("poet", texts) == poet.predict(texts)
    images = aimass.data.load("digits").table.drop_columns("target").slice(0, 8).to_pylist()
    for answer, expected in zip(client.predict("reader", images), reader.predict(images), strict=True):
        assert answer["prediction"] == expected["prediction"]
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)


def test_a_replay_with_a_key_is_one_answer(client, churn):
    rows = [{"age": 50, "plan": "gold"}]
    first = client.predict("churn", rows, idempotency_key="order-1")
    assert client.predict("churn", rows, idempotency_key="order-1") == first
    with pytest.raises(Conflict):
        client.predict("churn", [{"age": 51, "plan": "gold"}], idempotency_key="order-1")


def test_lists_page_to_their_end(client, csv):
    made = [client.datasets.create(sample="iris", name=f"iris-{number}").id for number in range(3)]
    found = [data.id for data in client.datasets.list()]
    assert found == sorted(found, reverse=True)
    assert set(made) <= set(found)
    assert [data.id for data in client.datasets.list(limit=2)] == found[:2]
    assert [data.id for data in client.datasets.list(after=found[1])] == found[2:]


def test_what_is_refused_is_the_error_that_it_would_be_here(client, service, churn, csv):
    with pytest.raises(NotFound) as caught:
        client.files.get("file-0")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert caught.value.request_id.startswith("req-")
    with pytest.raises(DataError, match="plan"):
        client.predict("churn", [{"age": 3}])
    with pytest.raises(UsageError, match="epochs"):
        client.jobs.create(dataset=client.datasets.create(sample="iris").id, config={"epochs": -1})
    with Client(service.url, "am_0_wrong") as stranger, pytest.raises(Unauthorized):
        stranger.files.get("file-0")
    key = client.keys.create("till", role="inference").key
    with Client(service.url, key) as till:
        assert till.predict("churn", [{"age": 3, "plan": "gold"}])
        with pytest.raises(Forbidden):
            list(till.files.list())


def test_an_admin_acts_in_another_project(client, service, csv):
    shop = client.projects.create("shop")
    with Client(service.url, service.key, project="shop") as elsewhere:
        file = elsewhere.files.upload(csv)
        with pytest.raises(NotFound):
            client.files.get(file.id)
        assert elsewhere.files.read(file.id) == CSV.encode()
    assert client.budgets.set(shop.id, "12.50")["limit_usd"].startswith("12.5")
    assert client.budgets.get(shop.id)["period"] == "month"
    client.budgets.delete(shop.id)
    with pytest.raises(NotFound):
        client.budgets.get(shop.id)


def test_the_same_awaited(service, csv, churn, tmp_path):
    async def story():
        async with AsyncClient(service.url, service.key) as client:
            file = await client.files.upload(csv)
            data = await client.datasets.create(file=file.id, target="churn")
            heard = []
            job = await client.jobs.create(dataset=data.id, model="awaited", config={**CONFIG, "start_from": churn})
            job = await job.wait(on_event=lambda event: heard.append(event.seq), timeout_s=250)
            told = [event async for event in job.events()]
            assert heard == [event.seq for event in told]
            assert [event.data["source"] for event in told if event.type == "started_from"] == ["churn@1"]
            assert (await client.models.version("awaited")).lineage["start_from"] == "churn@1"
            await client.deployments.create(model="awaited")
            asked = [client.predict("awaited", [{"age": age, "plan": "gold"}]) for age in range(20, 40)]
            answers = [found[0] for found in await asyncio.gather(*asked)]
            together = await client.predict("awaited", [{"age": age, "plan": "gold"} for age in range(20, 40)])
            assert [answer["prediction"] for answer in answers] == [answer["prediction"] for answer in together]
            assert [answer["probability"] for answer in answers] == pytest.approx([answer["probability"] for answer in together], abs=1e-6)
            assert (await client.models.download("awaited", tmp_path / "model") / "model.json").is_file()
            assert "awaited" in [name async for name in client.served()]

    asyncio.run(story())


def test_a_follower_outlives_a_kill_of_the_service(tmp_path):
    with running_service(tmp_path / "home") as service, Client(service.url, service.key) as client:
        data = client.datasets.create(sample="digits")
        job = client.jobs.create(dataset=data.id, model="digits", config={"epochs": 30, "lr": 0.01})
        heard, has_begun = [], threading.Event()

        def hear(event):
            heard.append(event.seq)
            if event.type == "epoch":
                has_begun.set()

        ended = []
        follower = threading.Thread(target=lambda: ended.append(job.wait(on_event=hear, timeout_s=250)))
        follower.start()
        assert has_begun.wait(250)
        service.kill()
        service.start()
        follower.join(250)
        assert [found.status for found in ended] == ["succeeded"]
        assert heard == list(range(heard[0], heard[0] + len(heard)))
        assert heard == [event.seq for event in client.jobs.history(job.id)]
