"""Progress of an epoch: a bar with loss and accuracy in a terminal, a plain line every ten seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from levelfield.backends.base import Progress

LINE_SECONDS = 10.0
BAR_SECONDS = 1.0


@contextmanager
def progress(label: str, steps: int, stream: TextIO = sys.stderr) -> Iterator[Progress]:
    """Yields a backend's Progress for one epoch. It fetches loss and accuracy when it shows them, and only then.

    At one fetch every ten seconds, waiting for the device costs less than 0.1 % even where a step takes 10 ms.
    """
    terminal = stream.isatty()
    bar = tqdm(total=steps, desc=label, unit="step", file=stream, disable=not terminal, leave=True)
    shown_at, shown_step, began = time.monotonic(), 0, time.monotonic()

    def report(step: int, fetch: Callable[[], tuple[float, float]]) -> None:
        nonlocal shown_at, shown_step
        now = time.monotonic()
        if now - shown_at < (BAR_SECONDS if terminal else LINE_SECONDS) or step <= shown_step:
            return
        shown_at = now
        loss, accuracy = fetch()
        if terminal:
            bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{accuracy:.4f}", refresh=False)
            bar.update(step - shown_step)
        else:
            rate = step / (now - began)
            left = f"{(steps - step) / rate:.0f} s left"
            print(f"{label}: step {step}/{steps}, loss {loss:.4f}, accuracy {accuracy:.4f}, {left}", file=stream, flush=True)
        shown_step = step

    yield report
    bar.update(steps - shown_step if terminal else 0)
    bar.close()
