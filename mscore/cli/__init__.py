"""The command line: parses, calls, prints. What it calls is in ``mscore.runs`` and below."""

import sys


def main() -> None:
    """Run the command of this process's arguments, and exit with its code."""
    from mscore.cli.program import run_program

    sys.exit(run_program(sys.argv[1:]))
