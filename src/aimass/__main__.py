"""`python -m aimass`: the command line, where `aimass` is not on the path."""

from __future__ import annotations

from aimass.cli import main

if __name__ == "__main__":
    main()
