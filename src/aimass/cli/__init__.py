"""The command line: `aimass`. One file a noun; whatever is heavy is imported when a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

from aimass.core.errors import AimassError
from aimass.core.leaving import leave_lightly

UNEXPECTED = 70
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code. Whatever goes wrong is one line on standard error.

    Args:
        arguments: what follows `aimass`; by default the process's own.

    Raises:
        SystemExit: always. 0; the `exit_code` of the error that ended the command (`core/errors.py`); 70 for a fault of ours,
            whose trace is written to a file under `AIMASS_HOME/crashes`.
    """
    leave_lightly()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    from aimass.cli.app import UsageProblem, command, in_words

    as_json = "--json" in arguments
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of a file that is no UTF-8 is neither a fault nor raw bytes in JSON
    try:
        status = command().main(args=list(arguments), prog_name="aimass", standalone_mode=False)
        sys.stdout.flush()
    except AimassError as error:
        return _fail(error, error.exit_code, as_json)
    except UsageProblem as problem:
        said = in_words(problem)
        return 0 if said is None else _fail(said, said.exit_code, as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush has somewhere to go
        return 1
    except Exception as error:  # noqa: BLE001 - the last stop: it is written down and said
        from aimass.cli.crash import keep_trace

        return _fail(keep_trace(error, arguments), UNEXPECTED, as_json)
    return status if isinstance(status, int) else 0


def _fail(error: AimassError, status: int, as_json: bool) -> int:
    from aimass.cli.output import print_error

    print_error(error, as_json=as_json)
    return status
