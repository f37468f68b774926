"""`python -m aimass.serving.engine --socket PATH`: one Prediction Engine, until its parent ends, or SIGTERM.

It writes `ready` to standard output once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from aimass.core.errors import AimassError
from aimass.serving.engine.parent import end_with_parent


def main() -> int:
    """Run until the end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aimass.serving.engine", description="A Prediction Engine.")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--threads", type=int, default=1, help="how many threads a network may use")
    parser.add_argument("--memory", type=int, default=None, help="how many bytes the models may take together")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long to wait for a gateway")
    options = parser.parse_args()
    end_with_parent()  # before torch is imported, which takes a second
    try:
        _run(options)
    except AimassError as error:
        print(f"engine: {error}", file=sys.stderr)  # noqa: T201 - the engine's log
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    import torch
    import uvloop

    from aimass.serving.engine.models import Models, warm
    from aimass.serving.engine.server import Server

    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    warm()

    async def serve() -> None:
        await Server(Models(options.memory), options.idle_s).run(options.socket, _announce)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _announce() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
