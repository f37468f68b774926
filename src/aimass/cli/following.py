"""Following a job at the service, with the bars and lines of a training here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from aimass.client import Client
    from aimass.client.answers import Event
    from aimass.client.resources.jobs import Job
    from aimass.training.showing.display import Display, Style


def follow_job(client: Client, job: str, *, quiet: bool = False, style: Style | None = None) -> Job:
    """Show what happens in a job until it ends. Ctrl-C stops following, and not the job.

    Args:
        quiet: shows nothing.
        style: `bar`, `lines` or `none`; by default bars in a terminal and lines elsewhere.

    Raises:
        AimassError: what it failed with.
        Cancelled: it was cancelled.
    """
    from aimass.training.showing.display import open_display

    try:
        with open_display("none" if quiet else style, sys.stderr) as display:
            return client.jobs.wait(job, on_event=lambda event: _show(display, event))
    except KeyboardInterrupt:
        typer.echo(f"{job} goes on; look at it with `aimass jobs show {job}`, or stop it with `aimass jobs cancel {job}`", err=True)
        raise


def _show(display: Display, event: Event) -> None:
    from aimass.core.events import Envelope
    from aimass.core.events import Event as Known
    from aimass.training import events as happened  # it makes the types known

    assert happened.RunStarted.kind in Known.known
    if event.type in Known.known:
        display.hear(Envelope(run="", seq=event.seq, time=event.time, type=event.type, data=event.data))
    elif event.message:
        display.say(event.message)


def end_of(job: Job) -> list[str]:
    """What to say of a job that has succeeded."""
    from aimass.cli.output import figures

    lines = [f"{name:<12}{figures(found)}" for name, found in _metrics(job.metrics or {}).items()]
    if job.result is not None:
        lines.append(f"{'result':<12}version {job.result.version} of model {job.result.model!r}")
        lines.append(f"{'next':<12}aimass models show {job.result.model}   or   aimass deploy {job.result.model}")
    return lines


def _metrics(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The parts of a run's metrics that are a line of figures each."""
    found = {name: metrics[name] for name in ("validation", "test") if isinstance(metrics.get(name), dict)}
    return {name: {key: value for key, value in part.items() if isinstance(value, int | float)} for name, part in found.items() if part}
