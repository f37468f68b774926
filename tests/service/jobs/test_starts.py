"""Jobs that begin with a version of the registry."""

import json
import shutil

import pytest
from jobplace import ended, told

from aimass.core.errors import DataError, NotFound, UsageError
from aimass.models.model import Model
from aimass.store import tables

SMALL = {"name": "mlp", "hidden": [8]}


@pytest.fixture
def known(place, flowers):
    """Two versions of it in the registry, the first under an alias."""
    for _ in range(2):
        place.registry.add(place.project, "flowers", flowers)
    place.registry.set_alias(place.project, "flowers", "production", 1)
    return flowers


def asked(place, start_from, **config):
    config = {"model": SMALL, "epochs": 2, "start_from": start_from, **config}
    return {"dataset": place.sample(), "model": "later", "config": config}


def test_a_job_goes_on_from_a_version_and_keeps_what_is_frozen(place, jobs, known):
    job = jobs.create(place.project, **asked(place, "flowers@production", freeze="layers.0"))
    place.registry.set_alias(place.project, "flowers", "production", 2)
    assert job["config"]["start_from"] == "flowers@1"
    job = ended(jobs, place.project, job["id"])
    assert job["status"] == "succeeded", job["error"]
    (started,) = [event["data"] for event in told(jobs, place, job["id"]) if event["type"] == "started_from"]
    assert (started["source"], started["fresh"], started["trainable_parameters"]) == ("flowers@1", [], 8 * 3 + 3)
    version = place.registry.version(place.project, "later")
    assert version.lineage["start_from"] == version.card["config"]["start_from"] == "flowers@1"
    before, after = Model.load(known), Model.load(place.registry.materialise(version, place.home / "cache"))
    assert after.encoder.to_json() == before.encoder.to_json()
    same = {name for name, tensor in after.module.state_dict().items() if tensor.equal(before.module.state_dict()[name])}
    assert same == {"layers.0.weight", "layers.0.bias"}
    folder = place.home / "jobs" / job["id"]
    assert not list(folder.rglob("model.safetensors"))


def test_a_name_alone_means_the_newest_of_now(place, known):
    jobs = place.jobs()
    made = [jobs.create(place.project, **asked(place, spelled))["id"] for spelled in ("flowers", "flowers@2", "flowers@newest")]
    place.registry.add(place.project, "flowers", known)
    assert [jobs.get(place.project, job)["config"]["start_from"] for job in made] == ["flowers@2"] * 3


def test_a_job_without_a_model_of_its_own_has_that_of_the_version(place, known, tmp_path):
    jobs = place.jobs()
    make = lambda **config: jobs.create(place.project, dataset=place.sample(), config={"start_from": "flowers", **config})  # noqa: E731
    assert make()["config"]["model"] == {**json.loads((known / "model.json").read_text())["config"]}
    assert make(model={"name": "mlp"})["config"]["model"]["hidden"] == [128, 64]
    described = json.loads((known / "model.json").read_text())
    shutil.copytree(known, tmp_path / "odd")
    (tmp_path / "odd" / "model.json").write_text(json.dumps({**described, "config": {"name": "custom", "module": "their.Net"}}))
    place.registry.add(place.project, "odd", tmp_path / "odd")
    with pytest.raises(UsageError, match=r"odd@1 is a module of your own \(their\.Net\)"):
        make(start_from="odd")


def test_what_cannot_be_begun_with_is_refused_at_the_door(place, known, tmp_path):
    jobs = place.jobs()
    create = lambda start_from="flowers", **config: jobs.create(place.project, **asked(place, start_from, **config))  # noqa: E731
    with pytest.raises(UsageError, match=r"start_from='/etc' names no version .* give NAME for its newest, NAME@3 or NAME@ALIAS"):
        create("/etc")
    for spelled in ("../flowers@1", "flowers@", "@1"):
        with pytest.raises(UsageError, match="names no version"):
            create(spelled)
    with pytest.raises(NotFound, match="there is no model 'run-2026' in this project"):
        create("run-2026")
    with pytest.raises(NotFound, match="has no version '3'; it has 1 to 2, and the aliases production"):
        create("flowers@3")
    with pytest.raises(NotFound, match="has no version 'stage'"):
        create("flowers@stage")
    with place.database.write() as connection:
        connection.execute(tables.projects.insert().values(id="proj-other", name="other", created=0.0))
    place.registry.add("proj-other", "theirs", known)
    with pytest.raises(NotFound, match="there is no model 'theirs' in this project"):
        create("theirs@1")
    with pytest.raises(UsageError, match="flowers@2 is 'mlp', and model='linear'; give model='mlp'"):
        create(model="linear", grow=True)
    with pytest.raises(UsageError, match="needs start_from"):
        create(None, grow=True)
    described = json.loads((known / "model.json").read_text())
    odd = tmp_path / "odd"
    shutil.copytree(known, odd)
    (odd / "model.json").write_text(json.dumps({**described, "config": "mlp"}))
    place.registry.add(place.project, "odd", odd)
    with pytest.raises(DataError, match=r"odd@1 is damaged: its model\.json names no family"):
        create("odd", grow=True)
    assert jobs.list(place.project)["data"] == []


def test_a_version_whose_bytes_are_gone_fails_the_job(place, jobs, known):
    place.blobs.delete(place.registry.version(place.project, "flowers").files["model.safetensors"].sha256)
    job = ended(jobs, place.project, jobs.create(place.project, **asked(place, "flowers"))["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "not_found")
    with pytest.raises(UsageError, match="start_from cannot change"):
        jobs.resume(place.project, job["id"], {"start_from": "flowers@1"})
