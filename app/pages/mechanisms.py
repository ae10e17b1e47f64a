"""mechanisms."""

from __future__ import annotations

from app import context

screen, _ = context.header("mechanisms", model=False)
