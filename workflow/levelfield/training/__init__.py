"""One run: a case trained with one seed, measured and recorded."""
