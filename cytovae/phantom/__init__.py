"""A simulated raw screen with known phenotypes, in BBBC021's own layout."""
