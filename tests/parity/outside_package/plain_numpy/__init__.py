"""A framework outside the package: NumPy, with gradients by hand."""
