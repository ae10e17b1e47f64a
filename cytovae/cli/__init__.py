"""The command line: one verb per step, no logic; the contract is that every verb ends 0, 1 or 2."""

from __future__ import annotations

from cytovae.cli.console import run as main

__all__ = ["main"]
