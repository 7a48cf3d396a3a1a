"""Is it the same? The start, the float64 reference, parity with it, and the contract's tests."""
