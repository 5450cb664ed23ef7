"""The command line: one function per command, whose docstring is its help and which holds no logic of its own."""

from equipoise.cli.app import main

__all__ = ["main"]
