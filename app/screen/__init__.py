"""The Screen page: what is loaded, plates, refused fields, models and their training."""
