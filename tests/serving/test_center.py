import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import msgspec
import pytest
from processes import is_running
from serving.centers import SharedCenter, alone, kinds, until
from serving.gateways import row, save, target

from aimass.core.errors import AimassError, TooLarge, Unavailable
from aimass.serving.link import EngineLink
from aimass.serving.quarantine import STRIKES

BODY = msgspec.json.encode({"instances": [row()]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Runs work with a center of one engine or of two, which the tests share: an engine takes seconds to start."""
    centers = {num_engines: SharedCenter(tmp_path_factory.mktemp("center"), num_engines) for num_engines in (1, 2)}
    yield lambda work, num_engines=1: centers[num_engines].run(work)
    for center in centers.values():
        center.close()


def test_concurrent_requests_for_a_cold_model_load_it_once(tmp_path, folder):
    async def work(center, events):
        assert center.engines()[0]["state"] == "stopped"
        assert not center.is_loaded("ver-small-1")
        answers = await asyncio.gather(*(center.answer(target(folder), "predict", BODY) for _ in range(20)))
        assert {reply.status for reply, _ in answers} == {200}
        assert kinds(events) == ["started", "ready", "loaded"]
        assert center.is_loaded("ver-small-1")
        (engine,) = center.engines()
        assert engine["state"] in ("ready", "busy")
        assert engine["requests"] == 20
        assert engine["latency_ms"]["p50"] <= engine["latency_ms"]["p99"]
        assert [model["name"] for model in engine["models"]] == ["small"]
        await until(lambda: center.engines()[0]["memory_bytes"] > 0)
        await center.unload("ver-small-1")
        assert not center.is_loaded("ver-small-1")
        assert center.engines()[0]["models"] == []

    alone(tmp_path, work)


@pytest.mark.parametrize("num_engines", [1, 2])
def test_a_killed_engine_loses_no_request(shared, folder, num_engines):
    async def work(center, events):
        model = target(folder)
        await center.load(model, copies=num_engines)
        answers, kills = Counter(), 0

        async def client():
            while kills < 2 or not center.is_loaded("ver-small-1"):
                try:
                    reply, body = await center.answer(model, "predict", BODY)
                    assert b'"predictions"' in body
                    answers[reply.status] += 1
                except Unavailable:
                    answers[503] += 1

        clients = asyncio.gather(*(client() for _ in range(16)))
        while kills < 2:
            await asyncio.sleep(0.01)
            busy = [engine for engine in center.engines() if engine["load"]["in_flight"]]
            if busy:
                os.kill(busy[0]["pid"], signal.SIGKILL)
                kills += 1
                await until(lambda kills=kills: kinds(events).count("lost") == kills and center.is_loaded("ver-small-1"))
        await clients
        assert set(answers) <= {200, 503}
        assert answers[503] <= 16
        await until(lambda: kinds(events).count("lost") == kills)
        await until(lambda: center.is_loaded("ver-small-1"))

    shared(work, num_engines=num_engines)


def test_a_killed_engine_comes_back_with_its_models_unasked(shared, folder):
    async def work(center, events):
        await center.load(target(folder))
        first = center.engines()[0]["pid"]
        os.kill(first, signal.SIGKILL)
        await until(lambda: not center.is_loaded("ver-small-1"))
        await until(lambda: center.is_loaded("ver-small-1"))
        assert center.engines()[0]["pid"] != first
        assert kinds(events) == ["loaded", "lost", "started", "ready", "loaded"]

    shared(work)


async def _hang(center, events):
    """Have the engine that is stopped taken for one that hangs, and none after it, however slow the machine is."""
    limit_s, center._fleet._hang_s = center._fleet._hang_s, 0.2
    await until(lambda: "hung" in kinds(events))
    center._fleet._hang_s = limit_s


def test_a_hung_engine_is_replaced_and_its_request_answered(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model)
        os.kill(center.engines()[0]["pid"], signal.SIGSTOP)
        asked = asyncio.create_task(center.answer(model, "predict", BODY))
        await _hang(center, events)
        assert (await asked)[0].status == 200

    shared(work)


def test_an_engine_that_hangs_is_replaced_though_nobody_waits_for_it_any_more(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model)
        os.kill(center.engines()[0]["pid"], signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(Unavailable, match="deadline"):
                await center.answer(model, "predict", BODY, deadline_s=0.05)
        await _hang(center, events)
        await until(lambda: center.is_loaded("ver-small-1"))
        assert (await center.answer(model, "predict", BODY))[0].status == 200
        assert center.engines()[0]["load"] == {"queued_rows": 0, "in_flight": 0, "predicted_ms": 0.0}

    shared(work)


def test_what_an_engine_does_for_those_who_left_is_counted_until_it_is_done(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model)
        pid = center.engines()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Unavailable, match="deadline"):
            await center.answer(model, "predict", BODY, deadline_s=0.1)
        assert center.engines()[0]["load"]["in_flight"] == 1
        os.kill(pid, signal.SIGCONT)
        await until(lambda: center.engines()[0]["load"]["in_flight"] == 0)
        assert (await center.answer(model, "predict", BODY))[0].status == 200

    shared(work)


def test_a_model_that_an_engine_does_not_hold_after_all_is_loaded_and_asked_again(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model)
        engine = center._fleet.engines[0]
        await engine.link.ask("unload", next(iter(engine.holds)))
        answers = await asyncio.gather(*(center.answer(model, "predict", BODY) for _ in range(5)))
        assert {reply.status for reply, _ in answers} == {200}
        assert kinds(events) == ["loaded", "missing", "loaded"]

    shared(work)


def test_a_model_that_ends_every_engine_is_left_out(shared, folder, monkeypatch):
    ask = EngineLink.ask

    async def work(center, events):
        def deadly(link, op, *args, **kwargs):
            """The engine is dead before it can read the question."""
            if op == "answer":
                (pid,) = [engine.process.pid for engine in center._fleet.engines if engine.link is link]
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            return ask(link, op, *args, **kwargs)

        model = target(folder)
        await center.load(model)
        monkeypatch.setattr(EngineLink, "ask", deadly)
        for _ in range(STRIKES - 1):
            center._quarantine.strike(next(iter(center._served.values())), time.monotonic())
        with pytest.raises(Unavailable, match="ended twice while small"):
            await center.answer(model, "predict", BODY)
        with pytest.raises(Unavailable, match=r"small .* is left out"):
            await center.answer(model, "predict", BODY)
        assert kinds(events).count("started") == 1

    shared(work)


ROOM = 32 << 20  # far more than what a model of ours is measured to take, which varies


def _large(folder, name):
    """A deployment that is thought not to fit into ROOM beside another, until it is loaded."""
    return dataclasses.replace(target(folder, name), bytes=ROOM + 1)


def test_the_least_useful_model_makes_room_and_none_in_use_does(shared, folder):
    async def work(center, events):
        one, two, three = target(folder, "one"), target(folder, "two"), _large(folder, "three")
        for _ in range(50):
            await center.answer(one, "predict", BODY)
        await center.answer(two, "predict", BODY)
        for model in center._served.values():
            model.load_s = 0.3  # as measured it varies, and the use with it
        await until(lambda: all(model.rate.per_s and not model.rate.has_counted for model in center._served.values()))
        engine = center._fleet.engines[0]
        engine.budget_bytes = engine.used_bytes() + ROOM
        await center.answer(three, "predict", BODY)
        assert {each["name"] for each in center.engines()[0]["models"]} == {"one", "three"}
        assert [event.data["model"] for event in events if event.type == "evicted"] == ["two"]
        assert sum(each["bytes"] for each in center.engines()[0]["models"]) <= engine.budget_bytes

    shared(work)


def test_a_model_without_a_place_gets_its_turn_beside_one_that_is_always_in_use(shared, folder, monkeypatch):
    monkeypatch.setattr("aimass.serving.placement._PATIENCE_S", 0.1)

    async def work(center, events):
        one, two = target(folder, "one"), _large(folder, "two")
        await center.load(one)
        center._fleet.engines[0].budget_bytes = ROOM + 1
        statuses, done = Counter(), False

        async def client():
            while not done:
                statuses[(await center.answer(one, "predict", BODY))[0].status] += 1

        clients = [asyncio.create_task(client()) for _ in range(8)]
        reply, _ = await center.answer(two, "predict", BODY)
        assert reply.status == 200
        assert "evicted" in kinds(events)
        before = statuses[200]
        await until(lambda: statuses[200] > before + 50)
        done = True
        await asyncio.gather(*clients)
        assert set(statuses) == {200}

    shared(work)


def test_a_model_that_waits_in_vain_leaves_the_others_where_they_are(shared, folder, monkeypatch):
    monkeypatch.setattr("aimass.serving.placement._PATIENCE_S", 0.1)
    monkeypatch.setattr("aimass.serving.placement.ROOM_LIMIT_S", 0.4)

    async def work(center, events):
        one, two = target(folder, "one"), target(folder, "two")
        await center.load(one)
        engine = center._fleet.engines[0]
        engine.budget_bytes = center.engines()[0]["models"][0]["bytes"] + 1
        os.kill(engine.process.pid, signal.SIGSTOP)
        under_way = asyncio.create_task(center.answer(one, "predict", BODY))
        with pytest.raises(Unavailable, match="no engine has room"):
            await center.answer(two, "predict", BODY)
        os.kill(engine.process.pid, signal.SIGCONT)
        assert (await under_way)[0].status == 200
        assert (await center.answer(one, "predict", BODY))[0].status == 200
        assert kinds(events).count("loaded") == 1

    shared(work)


def test_an_engine_that_dies_while_a_model_leaves_it_loses_no_request(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model)
        pid = center.engines()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        under_way = asyncio.create_task(center.answer(model, "predict", BODY))
        await until(lambda: center.engines()[0]["load"]["in_flight"] == 1)
        leaving = asyncio.create_task(center.unload("ver-small-1"))
        await until(lambda: not center.is_loaded("ver-small-1"))
        os.kill(pid, signal.SIGKILL)
        assert (await under_way)[0].status == 200
        await leaving

    shared(work)


def test_a_model_that_no_engine_may_hold_is_refused_with_a_sentence(tmp_path, folder):
    async def work(center, events):
        with pytest.raises(TooLarge, match="raise engine_memory"):
            await center.load(target(folder))
        with pytest.raises(Unavailable, match="raise engine_memory"):
            await center.answer(target(folder), "predict", BODY)

    alone(tmp_path, work, budget_bytes=1000)


def test_a_folder_that_is_no_model_is_refused_and_harms_nobody(shared, tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()

    async def work(center, events):
        with pytest.raises(AimassError):
            await center.load(target(empty, "broken"))
        reply, _ = await center.answer(target(folder), "predict", BODY)
        assert reply.status == 200
        assert "lost" not in kinds(events)

    shared(work)


async def _load_test(center, model, num_clients, num_requests):
    async def client():
        for _ in range(num_requests):
            reply, _ = await center.answer(model, "predict", BODY)
            assert reply.status == 200

    before = {engine["id"]: engine["requests"] for engine in center.engines()}
    await asyncio.gather(*(client() for _ in range(num_clients)))
    return [engine["requests"] - before[engine["id"]] for engine in center.engines()]


def test_two_engines_share_the_load(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model, copies=2)
        least = []
        while not least or (max(least) <= 3200 / 8 and len(least) < 8):  # one that the machine slowed down gets its share again
            shares = await _load_test(center, model, 32, 100)
            assert sum(shares) == 3200
            least.append(min(shares))
        assert max(least) > 3200 / 8

    shared(work, num_engines=2)


def _more(engine, requests, *, or_idle=False):
    """A condition: the engine has answered so many more than now, or has nothing to do."""
    ahead = engine.requests + requests
    return lambda: engine.requests >= ahead or (or_idle and not engine.flights)


def test_a_slow_engine_gets_fewer(shared, folder):
    async def work(center, events):
        model = target(folder)
        await center.load(model, copies=2)
        slow, fast = center._fleet.engines

        async def hinder():
            """For each few answers of one engine there is time for two hundred of the other."""
            while True:
                os.kill(slow.process.pid, signal.SIGSTOP)
                await until(_more(fast, 200, or_idle=True), every_s=0.001)
                os.kill(slow.process.pid, signal.SIGCONT)
                await until(_more(slow, 1), every_s=0.001)

        hindering = asyncio.create_task(hinder())
        try:
            shares = await _load_test(center, model, 8, 300)
        finally:
            hindering.cancel()
            os.kill(slow.process.pid, signal.SIGCONT)
        assert shares[0] < shares[1] / 2

    shared(work, num_engines=2)


def test_a_busy_model_gets_a_second_engine(tmp_path, folder):
    async def work(center, events):
        model = target(folder)
        end = time.monotonic() + 200

        async def client():
            while kinds(events).count("loaded") < 2 and time.monotonic() < end:
                await center.answer(model, "predict", BODY)

        await asyncio.gather(*(client() for _ in range(64)))
        assert kinds(events).count("loaded") == 2

    alone(tmp_path, work, num_engines=2)


def test_new_settings_reach_the_engine_beside_the_old_which_go_when_nobody_means_them(shared, folder, monkeypatch):
    old, new = target(folder), target(folder, max_batch=8)
    looks = []

    def is_current(each):
        looks.append(each)
        return each.settings == new.settings

    async def work(center, events):
        center._is_current = is_current
        await center.answer(old, "predict", BODY)
        await center.load(new)
        for each in (old, new, target(folder), target(folder, max_batch=8)):
            assert (await center.answer(each, "predict", BODY))[0].status == 200
        assert kinds(events) == ["loaded", "loaded"]
        monkeypatch.setattr("aimass.serving.scheduler_center._UNNAMED_S", 0.0)
        await until(lambda: kinds(events).count("evicted") == 1)
        looks.clear()
        await until(lambda: len(looks) > 2)
        assert kinds(events).count("evicted") == 1
        assert center.is_loaded("ver-small-1")
        assert len(center._served) == 1

    shared(work)


SERVICE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from serving.gateways import target
from aimass.serving.scheduler_center import SchedulerCenter

async def main():
    center = SchedulerCenter(home=Path({home!r}), num_engines=1, budget_bytes=1 << 30)
    await center.start()
    await center.load(target({folder!r}))
    print(center.engines()[0]["pid"], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_engines_leave_with_a_service_that_is_killed(tmp_path, folder):
    tests = os.path.dirname(os.path.dirname(__file__))
    script = SERVICE.format(tests=tests, home=str(tmp_path), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as service:
        pid = int(service.stdout.readline())
        assert is_running(pid)
        service.kill()
    end = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < end, "the engine is still there"
        time.sleep(0.02)
