"""The paper from nothing in one command: steps that are the library's own, what the paper says, and the report."""
