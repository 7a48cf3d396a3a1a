"""The sequences: where they come from, read safely, encoded and padded."""
