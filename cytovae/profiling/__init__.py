"""Embeddings to profiles, whitening, and the mechanism-of-action benchmark; no torch, and no files but in `study`."""
