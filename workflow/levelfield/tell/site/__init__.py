"""One page over all studies of a folder, their machines and versions."""
