"""What is asked for beside the training, of frameworks that may not tell: it is left empty then, and the training stands."""

import sys
from collections.abc import Callable
from typing import TypeVar

Told = TypeVar("Told")


def asked(what: str, ask: Callable[[], Told], untold: Told) -> Told:
    """What `ask` returns, or `untold` where it raises, which is said on stderr. what: in words."""
    try:
        return ask()
    except Exception as error:  # whatever a framework raises, the run that was timed stands
        print(f"{what} not told: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return untold
