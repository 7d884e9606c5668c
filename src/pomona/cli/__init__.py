"""The command line: it turns text into objects, calls the public face and prints what comes back. No logic lives here."""

from pomona.cli.app import main

__all__ = ["main"]
