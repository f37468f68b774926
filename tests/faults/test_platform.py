"""kill -9 of the service, of jobs and of engines while clients work: what was acknowledged is there, and the bill is right."""

import os
import random
import threading
import time

import httpx
import psutil
import pytest
from services import Service, end_drivers, processes_of, wait_until

OPERATIONS = int(os.environ.get("AIMASS_SOAK_OPERATIONS", "40"))
NUM_CLIENTS, MOST_JOBS = 3, 6
KILLS = {"service": 1, "job": 2, "engine": 2}
ENDED = ("succeeded", "failed", "cancelled")
ROW = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}


class Clients:
    """Threads that do mixed operations and note what was acknowledged."""

    def __init__(self, service, dataset, seed):
        self.service, self.dataset = service, dataset
        self.lock = threading.Lock()
        self.done = 0
        self.killed = []
        self.chance = random.Random(seed)
        self.files, self.jobs, self.keys, self.revoked, self.aliases = {}, [], [], [], {}
        self.asked, self.answered, self.codes = [], [], {}

    def work(self, number):
        operations = [self.upload, self.job, self.key, self.revoke, self.alias, self.deploy, *[self.predict] * 6]
        with httpx.Client(base_url=self.service.url, headers=self.service.headers, timeout=60) as http:
            while True:
                with self.lock:
                    if self.done >= OPERATIONS and (self.has_seen_enough() or self.done >= 10 * OPERATIONS):
                        return
                    self.done += 1
                    turn = self.done
                    operation = self.chance.choice(operations)
                try:
                    operation(http, f"{number}-{turn}")
                except httpx.TransportError:
                    time.sleep(0.3)  # the service is being killed or started; the operation counts as tried

    def has_seen_enough(self):
        return all(self.killed.count(victim) >= least for victim, least in KILLS.items())

    def note(self, response):
        with self.lock:
            self.codes[response.status_code] = self.codes.get(response.status_code, 0) + 1
        assert response.status_code < 500 or response.status_code == 503, response.text
        return response.is_success

    def upload(self, http, name):
        content = f"a,b\n{name},1\n".encode()
        response = http.post("/v1/files", data={"purpose": "dataset"}, files={"file": (f"{name}.csv", content)})
        if self.note(response):
            self.files[response.json()["id"]] = content

    def job(self, http, name):
        if len(self.jobs) >= MOST_JOBS:
            return
        body = {"dataset": self.dataset, "model": "other", "config": {"epochs": 3, "workers": self.chance.choice([0, 1])}}
        response = http.post("/v1/training/jobs", json=body)
        if self.note(response):
            self.jobs.append(response.json()["id"])

    def key(self, http, name):
        response = http.post("/v1/keys", json={"name": name, "role": "inference"})
        if self.note(response):
            self.keys.append(response.json())

    def revoke(self, http, name):
        with self.lock:
            key = self.keys.pop() if self.keys else None
        if key is not None and self.note(http.delete(f"/v1/keys/{key['id']}")):
            self.revoked.append(key)

    def alias(self, http, name):
        if self.note(http.put(f"/v1/registry/models/iris/aliases/a{name}", json={"version": 1})):
            self.aliases[f"a{name}"] = 1

    def deploy(self, http, name):
        self.note(http.post("/v1/deployments", json={"model": "iris", "version": 1}))

    def predict(self, http, name):
        for turn in range(5):
            request = f"req.{name}.{turn}"
            self.asked.append(request)
            response = http.post("/v1/models/iris:predict", json={"instances": [ROW]}, headers={"x-request-id": request})
            if self.note(response):
                assert response.json()["predictions"][0]["prediction"] == "setosa"
                self.answered.append(request)


def kill_at_random(service, done, chance, killed):
    while not done.wait(chance.uniform(0.05, 0.8)):
        victim = chance.choice(["service", "job", "job", "engine", "engine"])
        if victim == "service":
            service.kill()
            service.start()
            killed.append(victim)
            continue
        module = "aimass.service.jobs.driver" if victim == "job" else "aimass.serving.engine"
        for process in processes_of(service.home, module)[:1]:
            try:
                process.kill()
                killed.append(victim)
            except psutil.NoSuchProcess:
                continue


def all_of(http, path, **query):
    found, after = [], {}
    while True:
        page = http.get(path, params={"limit": 100, **query, **after}).raise_for_status().json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = {"after": page["last_id"]}


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_and_the_bill_is_right(own_home):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    service = Service(home=own_home).start()
    try:
        with httpx.Client(base_url=service.url, headers=service.headers, timeout=60) as http:
            dataset = http.post("/v1/datasets", json={"sample": "iris"}).raise_for_status().json()["id"]
            body = {"dataset": dataset, "model": "iris", "config": {"epochs": 20}}
            first = http.post("/v1/training/jobs", json=body).raise_for_status().json()["id"]
            ended = wait_until(lambda: http.get(f"/v1/training/jobs/{first}").json()["status"] in ENDED)
            assert ended
            http.post("/v1/deployments", json={"model": "iris"}).raise_for_status()
        clients, done = Clients(service, dataset, seed), threading.Event()
        workers = [threading.Thread(target=clients.work, args=(number,)) for number in range(NUM_CLIENTS)]
        killer = threading.Thread(target=kill_at_random, args=(service, done, chance, clients.killed))
        for thread in [*workers, killer]:
            thread.start()
        for worker in workers:
            worker.join()
        done.set()
        killer.join()
        check(service, clients)
    finally:
        service.stop()
        end_drivers(own_home)


def check(service, clients):
    assert clients.has_seen_enough(), clients.killed
    with httpx.Client(base_url=service.url, headers=service.headers, timeout=60) as http:
        for name, content in clients.files.items():
            assert http.get(f"/v1/files/{name}/content").content == content
        aliases = http.get("/v1/registry/models/iris").json()["aliases"]
        assert {name: aliases.get(name) for name in clients.aliases} == clients.aliases
        for key in clients.keys:
            assert httpx.get(f"{service.url}/v1/models", headers={"authorization": f"Bearer {key['key']}"}, timeout=60).status_code == 200
        for key in clients.revoked:
            assert httpx.get(f"{service.url}/v1/models", headers={"authorization": f"Bearer {key['key']}"}, timeout=60).status_code == 401
        check_jobs(http, clients)
        check_bill(http, clients)


def check_jobs(http, clients):
    def all_ended():
        jobs = {job["id"]: job for job in all_of(http, "/v1/training/jobs")}
        return jobs if all(job["status"] in ENDED for job in jobs.values()) else None

    jobs = wait_until(all_ended, limit_s=240, every_s=0.5)
    assert set(clients.jobs) <= set(jobs)
    unexplained = [jobs[name]["error"] for name in clients.jobs if jobs[name]["status"] != "succeeded"]
    assert all(error["code"] == "driver_died" for error in unexplained), unexplained  # killed three times before it got anywhere
    results = [job["result"]["version"] for job in jobs.values() if job["model"] == "other" and job["result"]]
    versions = all_of(http, "/v1/registry/models/other/versions") if results else []
    assert sorted(results) == sorted(version["version"] for version in versions) == list(range(1, len(results) + 1))
    for version in versions:
        for path, blob in version["files"].items():
            content = http.get(f"/v1/registry/models/other/versions/{version['version']}/files/{path}")
            assert len(content.content) == blob["bytes"]
    for name in clients.jobs:
        seen = [event["seq"] for event in all_of(http, f"/v1/training/jobs/{name}/events", order="asc")]
        assert sorted(seen) == list(range(len(seen)))


def check_bill(http, clients):
    def settled():
        events = all_of(http, "/v1/usage/events", item="prediction")
        charged = [event["request"] for event in events]
        return events if set(clients.answered) <= set(charged) else None

    events = wait_until(settled, limit_s=240, every_s=0.5)
    charged = [event["request"] for event in events]
    assert len(charged) == len(set(charged)), "a request was charged twice"
    assert set(charged) <= set(clients.asked)
    doubtful = {event["request"] for event in events if event["in_doubt"]}
    unexplained = set(charged) - set(clients.answered) - doubtful
    assert not unexplained, unexplained
    invoice = http.get("/v1/invoices").raise_for_status().json()
    line = next(line for line in invoice["lines"] if line["item"] == "prediction")
    assert line["amount_micro"] == sum(event["amount_micro"] for event in events)
    assert invoice["subtotal_micro"] == sum(line["amount_micro"] for line in invoice["lines"])
