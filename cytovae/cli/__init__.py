"""The command line: one verb per step, no logic; the contract is that every verb ends 0, 1 or 2."""

from cytovae.cli.verbs import run as main

__all__ = ["main"]
