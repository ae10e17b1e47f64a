"""See what a drug does to a cell: embeddings of single-cell images that decode back into cells."""

__version__ = "0.2.0"
