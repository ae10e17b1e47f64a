"""The Reconstructions page: real cells above what each model makes of them."""
