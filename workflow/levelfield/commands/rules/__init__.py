"""What the rules call, one file a verb."""
