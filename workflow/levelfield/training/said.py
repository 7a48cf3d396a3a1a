"""What a process says: passed on as it comes, and its last lines kept, for who asks why it ended."""

import sys
from io import BufferedReader
from threading import Thread

KEPT_BYTES = 4_000
WAIT_SECONDS = 5.0
"""For what is still in the pipe when the process has ended; another that it left behind may hold the pipe for ever."""


class Said:
    """Reads a process's output to its end in a thread of its own; to be made right after the process.

    stream: its output, in bytes: a program may print anything.
    """

    def __init__(self, stream: BufferedReader):
        self._stream, self._kept = stream, b""
        self._thread = Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        log = sys.stdout.buffer
        while chunk := self._stream.read1(1 << 16):
            self._kept = (self._kept + chunk)[-KEPT_BYTES:]
            try:
                log.write(chunk)
                log.flush()
            except OSError:  # a full disk under the log is no reason to have the process wait in its next line
                pass

    def tail(self) -> str:
        """The last lines, once the process has ended; bytes that are no text are shown as `\\xff`."""
        self._thread.join(WAIT_SECONDS)
        return self._kept.decode(errors="backslashreplace")
