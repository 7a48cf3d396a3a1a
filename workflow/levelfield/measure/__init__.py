"""Measurement: clocks, host, GPU and environment; needs numpy, the framework and pynvml alone, for it runs in containers."""
