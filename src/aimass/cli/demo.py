"""`aimass demo`: the whole story, on the handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import asyncio
import csv
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import figures, print_json, print_table
from aimass.core.errors import UsageError

if TYPE_CHECKING:
    from aimass.client import Client
    from aimass.client.answers import Version
    from aimass.client.resources.jobs import Job

_NAME, _TARGET = "digits", "digit"
_ASKED = 1000
_AT_ONCE = 8
_EPOCHS = 40
_SHADES = "  .:-=+*#%@@"
_SIDE = 8
_WATCH_S = 0.2
_BILL_S = 60.0

Row = dict[str, float]
Say = Callable[[str], object]


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the service of the demo keeps its state.")] = Path("demo-output"),
    workers: Annotated[int, typer.Option(min=0, help="Worker processes.")] = 2,
    stay: Annotated[
        bool | None, typer.Option("--stay/--leave", help="Keep the service up until Ctrl-C; by default in a terminal only.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Start a service, train on digits, deploy the model, ask it 1,000 times over HTTP, and print the invoice."""
    from aimass.cli.background import service_in
    from aimass.client import Client

    started = time.monotonic()
    say = _silent if json else typer.echo
    known, held_back = _digits(seed=0)
    say("1. Up: a service with nothing but what pip installed: SQLite, a folder, processes of this machine.")
    with service_in(_new_home(out)) as service, Client(service.url, service.key) as client:
        say(f"   It answers at {service.url}, and its admin key begins with {service.key[:9]}…\n")
        file = _upload(client, out / "digits.csv", known, say)
        job = _train(client, file, workers, quiet=json, say=say)
        version = _keep(client, job, say)
        client.deployments.create(model=_NAME, version=version)
        say(f"5. Deployed: version {version} answers POST /v1/models/{_NAME}:predict\n")
        answers, speed = asyncio.run(_ask(service.url, service.key, [row for row, _ in held_back]))
        right = sum(answer == digit for answer, (_, digit) in zip(answers, held_back, strict=True))
        _tell_answers(answers, held_back, right, speed, say)
        invoice = _settle(client, say)
        address = f"{service.url}/docs"
        say(f"\n9. Everything above can be tried at {address}   ({time.monotonic() - started:.0f} s since the start)")
        if json:
            accuracy = right / len(answers)
            return print_json({"url": service.url, "version": version, "accuracy": accuracy, **speed, "invoice": invoice, "docs": address})
        _next_steps(service.url, out, say)
        if sys.stdout.isatty() if stay is None else stay:
            _stay(service.process)
    say("The service has left, and nothing of it runs any more.")


def _silent(_: str) -> None:
    pass


def _new_home(out: Path) -> Path:
    """An empty folder for the service's state; one of an earlier demo is replaced."""
    home = out / "home"
    if home.exists() and any(home.iterdir()) and not (home / "aimass.db").exists():
        raise UsageError(f"{home} is there already and is of no demo; choose another folder with --out")
    shutil.rmtree(home, ignore_errors=True)
    return home.resolve()


# ---------------------------------------------------------------------------------------------------------- the data


def _digits(seed: int) -> tuple[list[tuple[Row, int]], list[tuple[Row, int]]]:
    """The digits that are trained on, and as many as are asked about afterwards."""
    from aimass.data.samples import read_sample

    columns = read_sample("digits").table.to_pylist()
    rows = [({name: value for name, value in row.items() if name != "target"}, int(row["target"])) for row in columns]
    random.Random(seed).shuffle(rows)  # noqa: S311 - a split, no secret
    return rows[_ASKED:], rows[:_ASKED]


def _upload(client: Client, path: Path, rows: list[tuple[Row, int]], say: Say) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*rows[0][0], _TARGET])
        lines.writerows([*row.values(), digit] for row, digit in rows)
    kept = client.files.upload(path)
    say(f"2. Uploaded {path}: {len(rows)} handwritten digits, {_SIDE} x {_SIDE} pixels each, as {kept.id}.")
    say(f"   {_ASKED:,} others are held back: they are what the model will be asked about.\n")
    return kept.id


# ------------------------------------------------------------------------------------------------------ the training


def _train(client: Client, file: str, workers: int, *, quiet: bool, say: Say) -> Job:
    from aimass.cli.following import follow_job

    data = client.datasets.create(file=file, target=_TARGET, name=_NAME, split=(0.9, 0.1, 0.0))
    config = {"workers": workers, "epochs": _EPOCHS, "optimizer": {"name": "adam", "lr": 0.003}}
    job = client.jobs.create(dataset=data.id, model=_NAME, config=config)
    say(f"3. Training as {job.id}, on {workers} worker processes that push gradients without waiting for each other.")
    return follow_job(client, job.id, quiet=quiet)


def _keep(client: Client, job: Job, say: Say) -> int:
    assert job.result is not None, "the job has succeeded"
    kept = client.models.version(_NAME, job.result.version)
    say(f"\n4. Version {kept.version} of {_NAME!r} is kept, and will never change. Its card:\n")
    for name, line in _card(kept):
        say(f"   {name:<12}{line}")
    say("")
    return kept.version


def _card(kept: Version) -> list[tuple[str, str]]:
    """The lines of a card that a person reads first."""
    card, config = kept.card, kept.card["config"]
    rows = ", ".join(f"{count:,} {part}" for part, count in card["data"]["rows"].items() if count)
    how = f"{config['strategy']['name']}, {config['workers']} workers, {config['optimizer']['name']}"
    return [
        ("model", f"{config['model']['name']}, {kept.bytes:,} bytes, as JSON and safetensors"),
        ("data", f"{rows} rows, of {kept.lineage['file']}"),
        ("training", f"{how}, {card['duration_s']:.1f} s, by {kept.lineage['job']}"),
        ("validation", figures(card["metrics"]["validation"])),
    ]


# ----------------------------------------------------------------------------------------------------------- answers


async def _ask(url: str, key: str, rows: list[Row]) -> tuple[list[Any], dict[str, float]]:
    """One request a row, a few at once. The answers in the order of the rows, and how fast they came."""
    from aimass.client import AsyncClient

    answers: list[Any] = [None] * len(rows)
    times_s: list[float] = []
    left = iter(range(len(rows)))

    async with AsyncClient(url, key) as client:

        async def work() -> None:
            for number in left:
                start = time.perf_counter()
                found = await client.predict(_NAME, [rows[number]])
                times_s.append(time.perf_counter() - start)
                answers[number] = found[0]["prediction"]

        start = time.perf_counter()
        await asyncio.gather(*[work() for _ in range(_AT_ONCE)])
        elapsed_s = time.perf_counter() - start
    times_s.sort()
    median_ms, p99_ms = (round(times_s[int(share * len(times_s))] * 1000, 2) for share in (0.5, 0.99))
    return answers, {"requests": len(rows), "requests_per_s": round(len(rows) / elapsed_s), "median_ms": median_ms, "p99_ms": p99_ms}


def _tell_answers(answers: list[Any], held_back: list[tuple[Row, int]], right: int, speed: dict[str, float], say: Say) -> None:
    say(f"6. Asked {len(answers):,} times over HTTP, one digit a request, {_AT_ONCE} requests at once.")
    say(
        f"   {speed['requests_per_s']:,} answers a second, half of them within {speed['median_ms']} ms and 99% within {speed['p99_ms']} ms,"
    )
    say("   this client's own time included. One of the digits, and the answer:\n")
    say(picture(held_back[0][0]))
    say(f"\n   it answers {answers[0]}, and it is a {held_back[0][1]}")
    say(f"\n7. {right} of {len(answers):,} answers are right: accuracy {right / len(answers):.1%} on digits that it never saw.\n")


def picture(row: Row) -> str:
    """One digit in letters.

    Args:
        row: `pixel_R_C` from 0, white, to 16, black.
    """
    lines = []
    for down in range(_SIDE):
        shades = [_SHADES[int(row[f"pixel_{down}_{across}"] / 16 * (len(_SHADES) - 1))] for across in range(_SIDE)]
        lines.append("      " + "".join(shade * 2 for shade in shades))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------- the bill


def _settle(client: Client, say: Say) -> dict[str, Any]:
    """The invoice, once every answer is in the ledger."""
    invoice = _invoice_with(client, _ASKED)
    say("8. The bill so far. Each answer was written down before it was sent, and is charged once:\n")
    rows = [
        (line["item"], line["model"], f"{line['num_events']:,}", f"{line['quantity']:,}", line["unit"], line["amount_usd"])
        for line in invoice["lines"]
    ]
    if say is not _silent:
        total = ("total", None, f"{invoice['num_events']:,}", None, None, invoice["subtotal_usd"])
        print_table(("item", "model", "events", "quantity", "unit", "USD"), [*rows, total], right=("events", "quantity", "USD"))
    return invoice


def _invoice_with(client: Client, answers: int) -> dict[str, Any]:
    end = time.monotonic() + _BILL_S
    while True:
        invoice: dict[str, Any] = client.invoice()
        asked = sum(line["quantity"] for line in invoice["lines"] if line["item"] == "prediction")
        if asked >= answers or time.monotonic() > end:
            return invoice
        time.sleep(_WATCH_S)


def _next_steps(url: str, out: Path, say: Say) -> None:
    say("   With a shell of your own:")
    say(f"     export AIMASS_HOME={out / 'home'}         # where this demo's login is")
    say("     aimass models list;  aimass jobs list;  aimass usage invoice;  aimass engines")
    say("   A service to keep: aimass up")


def _stay(process: Any) -> None:
    try:
        typer.echo("\nIt stays up until Ctrl-C.")
        process.wait()
    except KeyboardInterrupt:
        typer.echo("")
