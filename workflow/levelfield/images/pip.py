"""pip of this environment: whether it is there at all, and what to type where it is not."""

import sys

INSTALL = f"install it (`{sys.executable} -m ensurepip`, `uv pip install pip`)"


def is_missing(said: str) -> bool:
    """Whether Python found no pip. said: what `python -m pip …` wrote to stderr."""
    return "No module named pip" in said
