"""`client.jobs`: training that the service carries out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field, fields
from typing import Any

from aimass.client.answers import Event, JobFacts, answer_of, entry_of, made_of
from aimass.client.call import Call, Listing, Request, create, get, part
from aimass.client.errors import error_named
from aimass.client.operation import Awaiting, Blocking, listing, operation
from aimass.client.sse import Told
from aimass.core.errors import Cancelled

OnEvent = Callable[[Event], object]


class JobCalls:
    """What is asked about jobs. The answers are bare facts; `Jobs` and `AsyncJobs` make handles of them."""

    @operation
    def created(
        self, dataset: str, model: str | None, config: Mapping[str, Any] | None, cpus: float | None, memory: str | int | None
    ) -> Call[JobFacts]:
        """The call behind `create`."""
        values = {"dataset": dataset, "model": model, "config": config, "cpus": cpus, "memory": memory}
        return Call(request=create("/v1/training/jobs", values), read=answer_of(JobFacts))

    @operation
    def asked(self, job: str) -> Call[JobFacts]:
        """The call behind `get`."""
        return Call(request=get(f"/v1/training/jobs/{part(job)}"), read=answer_of(JobFacts))

    @operation
    def cancelled(self, job: str) -> Call[JobFacts]:
        """The call behind `cancel`."""
        return Call(request=create(f"/v1/training/jobs/{part(job)}/cancel"), read=answer_of(JobFacts))

    @operation
    def resumed(self, job: str, config: Mapping[str, Any] | None) -> Call[JobFacts]:
        """The call behind `resume`."""
        return Call(request=create(f"/v1/training/jobs/{part(job)}/resume", {"config": config}), read=answer_of(JobFacts))

    @listing
    def history(self, job: str, *, limit: int | None = None) -> Listing[Event]:
        """What has happened in a job until now, from its beginning; `events` goes on until its end."""
        return Listing(request=get(f"/v1/training/jobs/{part(job)}/events"), read=entry_of(Event), limit=limit)

    @listing
    def listed(self, limit: int | None, after: str | None) -> Listing[JobFacts]:
        """The listing behind `list`."""
        return Listing(request=get("/v1/training/jobs", after=after), read=entry_of(JobFacts), limit=limit)


@dataclass(frozen=True, kw_only=True)
class Job(JobFacts):
    """A job, and what can be done with it. Its facts are those of when it was asked for; `refresh` asks again."""

    _jobs: Jobs = field(repr=False, compare=False)

    def refresh(self) -> Job:
        """The job as it is now."""
        return self._jobs.get(self.id)

    def events(self, *, after: int | None = None) -> Iterator[Event]:
        """What happens in it; see `Jobs.events`."""
        return self._jobs.events(self.id, after=after)

    def wait(self, *, on_event: OnEvent | None = None, timeout_s: float | None = None) -> Job:
        """Wait for its end; see `Jobs.wait`."""
        return self._jobs.wait(self.id, on_event=on_event, timeout_s=timeout_s)

    def cancel(self) -> Job:
        """Ask it to stop; a checkpoint is kept."""
        return self._jobs.cancel(self.id)

    def resume(self, *, config: Mapping[str, Any] | None = None) -> Job:
        """Go on from its last checkpoint."""
        return self._jobs.resume(self.id, config=config)


class Jobs(JobCalls, Blocking):
    """Training that the service carries out."""

    def create(
        self,
        *,
        dataset: str,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        cpus: float | None = None,
        memory: str | int | None = None,
    ) -> Job:
        """Start training.

        Args:
            dataset: a data set's id.
            model: the name in the registry under which the result is kept; by default the data set's.
            config: the settings of `aimass.train`, such as `{"workers": 2, "epochs": 10}`.
            cpus: how many cores it takes; by default one a worker.
            memory: how much it may use, such as `"2GB"`.
        """
        return self._handle(self.created(dataset, model, config, cpus, memory))

    def get(self, job: str) -> Job:
        """One job."""
        return self._handle(self.asked(job))

    def list(self, *, limit: int | None = None, after: str | None = None) -> Iterator[Job]:
        """The jobs, the newest first; `limit` of them at most, those after the id `after`."""
        return map(self._handle, self.listed(limit, after))

    def cancel(self, job: str) -> Job:
        """Ask a job to stop. One that runs writes a checkpoint first."""
        return self._handle(self.cancelled(job))

    def resume(self, job: str, *, config: Mapping[str, Any] | None = None) -> Job:
        """Let a job that failed or was cancelled go on from its last checkpoint, with such changes as `aimass.resume` takes."""
        return self._handle(self.resumed(job, config))

    def events(self, job: str, *, after: int | None = None, timeout_s: float | None = None) -> Iterator[Event]:
        """What happened in a job, and what happens until it ends. A connection that breaks is made anew, and no event is lost or doubled.

        Args:
            after: begin after the event with this `seq`; by default with the first.
            timeout_s: follow no longer than this.

        Raises:
            TimeoutError: the job has not ended by then.
        """
        return map(_event, self._sender.follow(_stream(job), _id(after), timeout_s))

    def wait(self, job: str, *, on_event: OnEvent | None = None, timeout_s: float | None = None) -> Job:
        """Wait for a job's end.

        Args:
            on_event: called with every event as it comes.
            timeout_s: wait no longer than this; the job goes on.

        Raises:
            AimassError: what it failed with, by its code.
            Cancelled: it was cancelled.
            TimeoutError: it has not ended in time.
        """
        with closing(self._sender.follow(_stream(job), None, timeout_s)) as stream:
            try:
                for told in stream:
                    if on_event is not None:
                        on_event(_event(told))
            except TimeoutError:
                raise _late(job, timeout_s) from None
        found = self.get(job)
        check_end(found)
        return found

    def _handle(self, facts: JobFacts) -> Job:
        return Job(_jobs=self, **_facts(facts))


@dataclass(frozen=True, kw_only=True)
class AsyncJob(JobFacts):
    """A job, and what can be done with it. Its facts are those of when it was asked for; `refresh` asks again."""

    _jobs: AsyncJobs = field(repr=False, compare=False)

    async def refresh(self) -> AsyncJob:
        """The job as it is now."""
        return await self._jobs.get(self.id)

    def events(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """What happens in it; see `Jobs.events`."""
        return self._jobs.events(self.id, after=after)

    async def wait(self, *, on_event: OnEvent | None = None, timeout_s: float | None = None) -> AsyncJob:
        """Wait for its end; see `Jobs.wait`."""
        return await self._jobs.wait(self.id, on_event=on_event, timeout_s=timeout_s)

    async def cancel(self) -> AsyncJob:
        """Ask it to stop; a checkpoint is kept."""
        return await self._jobs.cancel(self.id)

    async def resume(self, *, config: Mapping[str, Any] | None = None) -> AsyncJob:
        """Go on from its last checkpoint."""
        return await self._jobs.resume(self.id, config=config)


class AsyncJobs(JobCalls, Awaiting):
    """Training that the service carries out; every method is awaited. What they take and raise is said in `Jobs`."""

    async def create(
        self,
        *,
        dataset: str,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        cpus: float | None = None,
        memory: str | int | None = None,
    ) -> AsyncJob:
        """Start training."""
        return self._handle(await self.created(dataset, model, config, cpus, memory))

    async def get(self, job: str) -> AsyncJob:
        """One job."""
        return self._handle(await self.asked(job))

    async def list(self, *, limit: int | None = None, after: str | None = None) -> AsyncIterator[AsyncJob]:
        """The jobs, the newest first."""
        async for facts in self.listed(limit, after):
            yield self._handle(facts)

    async def cancel(self, job: str) -> AsyncJob:
        """Ask a job to stop."""
        return self._handle(await self.cancelled(job))

    async def resume(self, job: str, *, config: Mapping[str, Any] | None = None) -> AsyncJob:
        """Let a job that failed or was cancelled go on."""
        return self._handle(await self.resumed(job, config))

    async def events(self, job: str, *, after: int | None = None, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """What happened in a job, and what happens until it ends."""
        async with aclosing(self._sender.follow(_stream(job), _id(after), timeout_s)) as stream:
            async for told in stream:
                yield _event(told)

    async def wait(self, job: str, *, on_event: OnEvent | None = None, timeout_s: float | None = None) -> AsyncJob:
        """Wait for a job's end."""
        async with aclosing(self._sender.follow(_stream(job), None, timeout_s)) as stream:
            try:
                async for told in stream:
                    if on_event is not None:
                        on_event(_event(told))
            except TimeoutError:
                raise _late(job, timeout_s) from None
        found = await self.get(job)
        check_end(found)
        return found

    def _handle(self, facts: JobFacts) -> AsyncJob:
        return AsyncJob(_jobs=self, **_facts(facts))


def check_end(job: JobFacts) -> None:
    """Raise what a job ended with, if that is not success.

    Raises:
        AimassError: what it failed with, by its code.
        Cancelled: it was cancelled.
    """
    if job.status == "cancelled":
        raise Cancelled(f"{job.id} was cancelled; let it go on with `aimass jobs resume {job.id}`")
    if job.status == "failed":
        problem = job.error
        raise error_named(
            problem.code if problem else None, f"{job.id} failed: {problem.message if problem else 'nothing is known of why'}"
        )


def _stream(job: str) -> Request:
    return get(f"/v1/training/jobs/{part(job)}/events", stream=True)


def _event(told: Told) -> Event:
    return made_of(Event, json.loads(told.data))


def _id(after: int | None) -> str | None:
    return None if after is None else str(after)


def _late(job: str, timeout_s: float | None) -> TimeoutError:
    return TimeoutError(f"{job} has not ended within {timeout_s:g} s; it goes on")


def _facts(facts: JobFacts) -> dict[str, Any]:
    return {fact.name: getattr(facts, fact.name) for fact in fields(facts)}
