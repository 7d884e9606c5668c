"""The command line: it turns text into objects, calls the public face and prints what comes back. No logic lives here."""

import sys


def main() -> None:
    """The entry point of the `pomona` command."""
    try:
        from pomona.cli.app import run  # here: Ctrl-C while the commands load is no traceback either
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
