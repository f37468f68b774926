"""`python -m aimass.serving.engine --socket PATH`: one Prediction Engine, until its parent ends, or SIGTERM.

It writes `ready` to standard output once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import stat
import sys
from pathlib import Path

from aimass.core.errors import AimassError, UsageError
from aimass.core.leaving import leave_now
from aimass.serving.engine.parent import end_with_parent


def main() -> int:
    """Run until the end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aimass.serving.engine", description="A Prediction Engine.")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--threads", type=int, default=1, help="how many threads a network may use")
    parser.add_argument("--memory", type=int, default=None, help="how many bytes the models may take together")
    parser.add_argument("--idle-s", type=float, default=30.0, help="how long to wait for a gateway")
    options = parser.parse_args()
    end_with_parent()  # this and the socket come before torch, which takes a second to import
    try:
        bound = bind(options.socket)
    except AimassError as error:
        print(f"engine: {error}", file=sys.stderr)  # noqa: T201 - the engine's log
        return error.exit_code
    try:
        _run(options, bound)
    finally:
        options.socket.unlink(missing_ok=True)
    return 0


def bind(path: Path) -> socket.socket:
    """A socket at a path, for this user alone.

    Raises:
        UsageError: the path is too long, or something else is there.
    """
    try:
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    except OSError:
        pass  # there is nothing, or what it is shows when the socket is made
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        found.bind(str(path))
    except OSError as error:
        found.close()
        raise UsageError(f"no socket can be made at {path} ({error}); give a free path of at most 100 bytes") from error
    finally:
        os.umask(before)
    return found


def _run(options: argparse.Namespace, bound: socket.socket) -> None:
    import torch
    import uvloop

    from aimass.serving.engine.models import Models, warm
    from aimass.serving.engine.server import Server

    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    warm()
    gc.collect()
    gc.freeze()  # what was imported stays, and looking through it takes a tenth of a second whenever a model goes

    async def serve() -> None:
        await Server(Models(options.memory), options.idle_s).run(bound, _announce)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _announce() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    leave_now(main())  # nothing is left to do, and taking torch apart takes a fifth of a second
