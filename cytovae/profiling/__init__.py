"""Embeddings to profiles, whitening, and the mechanism-of-action benchmark; memory only, no torch."""
