"""Levelfield: the same data, the same first weights, the same batches, so that what differs is the framework."""
