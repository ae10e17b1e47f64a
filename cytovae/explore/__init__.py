"""Paths between cells and the evidence for them; pure functions, handed `encode` and `decode`."""
