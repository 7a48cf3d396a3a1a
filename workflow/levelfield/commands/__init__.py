"""What people type, one file a verb; what the rules call stands apart, in `rules/`."""
