"""`aimass jobs`: training at the service."""

from __future__ import annotations

import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.help import HelpAll, SettingsCommand, with_most_used
from aimass.cli.options import AsJson, Limit
from aimass.cli.output import first_of, moment, print_json, print_list, print_more, print_table, size
from aimass.cli.settings import META, with_names
from aimass.cli.training_options import (
    COLUMNS,
    DATA_OPTIONS,
    OF_END,
    OF_STEPS,
    OF_TRANSFER,
    OF_WORKERS,
    SETTINGS,
    TRAINING,
    given_of,
    option,
    taking,
)
from aimass.core.errors import UsageError

if TYPE_CHECKING:
    from aimass.client.resources.jobs import Job

JOB = "Job"
app = typer.Typer(help="Training at the service.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]
Follow = Annotated[bool, option(JOB, "Show how it goes, until it has ended.", "--follow", "-f")]
DATA_HELP = "A data set's id; or what one is made of: a file here, a file's id, or a sample such as digits."


@app.command(
    cls=with_most_used("target", "model", "family", "workers", "strategy", "epochs", "optimizer", "lr", "batch_size", "follow"),
    epilog="Example: aimass jobs create customers.csv --target churn --workers 2 --epochs 10 --follow",
)
@taking(COLUMNS, before="model")
@taking(OF_WORKERS | OF_STEPS, before="start_from")
@taking(OF_TRANSFER | OF_END, before="json")
def create(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    model: Annotated[str | None, option(JOB, "What the registry calls the result; by default as the data set.", metavar="NAME")] = None,
    cpus: Annotated[float | None, option(JOB, "Cores that it takes; by default one a worker.")] = None,
    memory: Annotated[str | None, option(JOB, "What it may use, such as 2GB.", metavar="SIZE")] = None,
    follow: Follow = False,
    family: Annotated[str | None, option(TRAINING, "The model's family, such as mlp or linear.")] = None,
    start_from: Annotated[
        str | None, option(TRAINING, "Begin with a model of the registry: churn, churn@3 or churn@production.", metavar="MODEL")
    ] = None,
    json: AsJson = False,
    help_all: HelpAll = False,
) -> None:
    """Start training: from a data set, or from a file here in one go."""
    from aimass.client import Client

    given = given_of(context)
    config = _config({**{name: given[name] for name in SETTINGS if name in given and name != "model"}, **context.meta[META]}, family)
    with Client() as client:
        if model is not None and family is None and not json:
            _tell_of_name(model)
        dataset = _dataset(client, data, given, quiet=json)
        job = client.jobs.create(dataset=dataset, model=model, config=config, cpus=cpus, memory=memory)
        if not follow:
            return _tell_started(job, as_json=json)
        _follow(client, job.id, as_json=json)


def _tell_of_name(model: str) -> None:
    """A model called like a family may have been meant as one."""
    from aimass.models.family import FAMILIES

    if model in FAMILIES.names():
        typer.echo(f"note: --model {model} is the name in the registry; the family {model!r} is chosen by --family {model}", err=True)


def _config(settings: dict[str, Any], family: str | None) -> dict[str, Any]:
    """The settings as the service takes them, found sound before anything is sent."""
    from aimass.core.config import nest
    from aimass.training.settling import settle

    if family is not None:
        settings = {"model": family, **settings}
    settings = with_names(settings)
    settle(settings)
    return nest(settings)


def _dataset(client: Any, data: str, given: dict[str, Any], *, quiet: bool) -> str:
    from aimass.cli.datasets import make_dataset

    if not data.startswith("ds-"):
        return make_dataset(client, data, {name: value for name, value in given.items() if name != "name"}, quiet=quiet).id
    refused = next((name for name in ("target", *DATA_OPTIONS) if name in given), None)
    if refused:
        raise UsageError(f"--{refused.replace('_', '-')} belongs to a data set when it is made; {data} is made already")
    return data


def _tell_started(job: Job, *, as_json: bool) -> None:
    if as_json:
        return print_json(job.raw)
    typer.echo(f"{job.id} is {job.status}; its result will be the next version of model {job.model!r}")
    typer.echo(f"next: aimass jobs follow {job.id}")


def _follow(client: Any, job: str, *, as_json: bool) -> None:
    from aimass.cli.following import end_of, follow_job

    found = follow_job(client, job, quiet=as_json)
    if as_json:
        return print_json(found.raw)
    for line in end_of(found):
        typer.echo(line)


@app.command("list", epilog="Example: aimass jobs list --limit 5")
def list_jobs(limit: Limit = 20, json: AsJson = False) -> None:
    """List the jobs, the newest first."""
    from aimass.client import Client

    with Client() as client:
        jobs, has_more = first_of(client.jobs.list(), limit)
    if json:
        return print_list([job.raw for job in jobs], has_more=has_more)
    if not jobs:
        return typer.echo("there are no jobs yet; start one with: aimass jobs create digits --follow")
    rows = [(job.id, job.status, job.model, _version(job), job.dataset, moment(job.created_at), _took(job)) for job in jobs]
    print_table(("job", "status", "model", "version", "data set", "created", "took"), rows, right=("version", "took"))
    print_more(has_more, limit)


def _version(job: Job) -> int | None:
    return None if job.result is None else job.result.version


def _took(job: Job) -> str | None:
    from aimass.training.showing.standing import duration

    return duration(job.finished_at - job.started_at) if job.finished_at and job.started_at else None


@app.command(epilog="Example: aimass jobs show job-01k9... --events")
def show(
    job: Id,
    events: Annotated[bool, typer.Option("--events", help="Print every event so far.")] = False,
    json: AsJson = False,
) -> None:
    """Show one job: how it stands, its settings, what came of it."""
    from aimass.client import Client

    with Client() as client:
        found = client.jobs.get(job)
        happened = list(client.jobs.history(job)) if events else []
    if json:
        return print_json({**found.raw, "events": [event.raw for event in happened]} if events else found.raw)
    if events:
        for event in happened:
            said = event.message or jsons.dumps(event.data, ensure_ascii=False)
            typer.echo(f"{moment(event.time, exact=True)}  {event.type:<20} {said}")
        return
    _show(found)


def _show(job: Job) -> None:
    from aimass.cli.following import end_of

    progress = {name: value for name, value in (job.progress or {}).items() if isinstance(value, int | float | str)}
    facts = {
        "job": job.id,
        "status": job.status + (f": {job.error.message}" if job.error else ""),
        "model": job.model,
        "data set": job.dataset,
        "created": moment(job.created_at),
        "started": moment(job.started_at),
        "ended": moment(job.finished_at) + (f" (after {_took(job)})" if _took(job) else ""),
        "may use": f"{job.cpus:g} core{'' if job.cpus == 1 else 's'}, {size(job.memory_bytes)}" if job.cpus else "",
        "progress": ", ".join(f"{name} {value}" for name, value in progress.items()) if not job.has_ended else "",
        "starts": str(job.epoch) if job.epoch > 1 else "",
    }
    for name, value in facts.items():
        if value:
            typer.echo(f"{name:<12}{value}")
    for line in end_of(job):
        typer.echo(line)
    if job.status in ("failed", "cancelled"):
        typer.echo(f"go on with it: aimass jobs resume {job.id}")


@app.command(epilog="Example: aimass jobs follow job-01k9...")
def follow(job: Id, json: AsJson = False) -> None:
    """Show how a job goes until it has ended. Ctrl-C stops following, and not the job."""
    from aimass.client import Client

    with Client() as client:
        _follow(client, job, as_json=json)


@app.command(epilog="Example: aimass jobs cancel job-01k9...")
def cancel(job: Id, json: AsJson = False) -> None:
    """Stop a job. One that runs writes a checkpoint first, from which it can be resumed."""
    from aimass.client import Client

    with Client() as client:
        found = client.jobs.cancel(job)
    if json:
        return print_json(found.raw)
    typer.echo(f"{job} is cancelled" if found.has_ended else f"{job} is stopping; `aimass jobs follow {job}` shows its end")


@app.command(cls=SettingsCommand, epilog="Example: aimass jobs resume job-01k9... --epochs 20 --follow")
@taking(OF_END, before="json")
def resume(
    context: typer.Context,
    job: Id,
    follow: Follow = False,
    workers: Annotated[str | None, option(TRAINING, "Worker processes, or a range such as 1:4.", metavar="N")] = None,
    json: AsJson = False,
) -> None:
    """Let a job that failed or was cancelled go on from its last checkpoint, with other settings if you like."""
    from aimass.client import Client
    from aimass.core.config import nest

    given = {name: value for name, value in context.params.items() if name in SETTINGS and value is not None}
    with Client() as client:
        found = client.jobs.resume(job, config=nest({**given, **context.meta[META]}))
        if not follow:
            return print_json(found.raw) if json else typer.echo(f"{job} is {found.status}; next: aimass jobs follow {job}")
        _follow(client, job, as_json=json)
