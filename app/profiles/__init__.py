"""The Profiles page: a map of cells, wells or treatments."""
