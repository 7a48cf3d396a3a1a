"""Containers: what an image is built from, what it is called, and the locks of its packages."""
