"""A fault of ours: the trace goes to a file, and one sentence says which."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

from aimass.core.errors import AimassError
from aimass.core.files import home, write_whole


def keep_trace(error: BaseException, arguments: Sequence[str]) -> AimassError:
    """Write down how an unexpected error came about, and return what to tell the user.

    Args:
        error: with its trace.
        arguments: the command line behind `aimass`.
    """
    from aimass import __version__

    command = " ".join(["aimass", *arguments])
    trace = "".join(traceback.format_exception(error))
    path = home() / "crashes" / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}.txt"
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    try:
        write_whole(path, f"{command}\naimass {__version__}, Python {sys.version}\n\n{trace}")
    except AimassError:
        sys.stderr.write(trace)
        return AimassError(f"this is a fault in aimass ({what}); please report it with the trace above, which could not be kept in a file")
    return AimassError(f"this is a fault in aimass ({what}); the trace is in {path}, please report it")
