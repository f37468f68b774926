"""A job from its creation to its version."""

from jobplace import ended, told


def test_a_job_ends_as_a_version(place, jobs):
    job = jobs.create(place.project, dataset=place.sample(), model="flowers", config={"epochs": 2, "workers": [1, 2]}, cpus=1)
    assert job["status"] in ("validating_files", "queued", "running")
    job = ended(jobs, place.project, job["id"])
    assert job["status"] == "succeeded", job["error"]
    assert (job["config"]["least_workers"], job["config"]["workers"]) == (1, 2)
    assert job["result"] == {"model": "flowers", "version": 1}
    version = place.registry.version(place.project, "flowers")
    assert version.lineage["job"] == job["id"]
    assert version.card["metrics"]["reason"] == "epochs"
    assert set(version.files) == {"model.json", "model.safetensors"}
    events = told(jobs, place, job["id"])
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events][:4] == ["created", "queued", "started", "run_started"]
    assert events[-1]["type"] == "succeeded"
    assert sum(event.quantity for event in place.usage()) > 0
