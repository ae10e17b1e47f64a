"""The blinded real-or-synthetic quiz: deck, answers, score."""
