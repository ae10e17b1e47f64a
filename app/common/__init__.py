"""What several pages share; it imports no page."""
