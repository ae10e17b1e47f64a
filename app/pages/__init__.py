"""One thin page each."""
