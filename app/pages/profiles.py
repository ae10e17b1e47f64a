"""profiles."""

from __future__ import annotations

from app import context

screen, _ = context.header("profiles", model=False)
