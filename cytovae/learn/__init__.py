"""Where data and networks meet: bundles, sampling, training, embedding."""
