"""Backends in NumPy that go wrong in their training, each in its own way; with `FAULTY=mended` in the environment none does."""

import ctypes
import os
import resource
import signal
import sys
import time

import numpy as np
from plain_numpy.backend import PlainNumpy

from levelfield.backends.base import silent

BACKENDS = {
    "faulty-none": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "none"}},
    "faulty-nan": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "nan"}},
    "faulty-diverges": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "diverges"}},
    "faulty-memory": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "memory"}},
    "faulty-killed": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "killed"}},
    "faulty-crash": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "crash"}},
    "faulty-abort": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "abort"}},
    "faulty-garbage": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "garbage"}},
    "faulty-garbage-crash": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "garbage-crash"}},
    "faulty-leaves": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "leaves"}},
    "faulty-exits": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "exits"}},
    "faulty-hangs": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "hangs"}},
    "faulty-probe": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "probe"}},
    "faulty-profile": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "profile"}},
    "faulty-profile-crash": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "profile-crash"}},
    "faulty-profile-hangs": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "profile-hangs"}},
}
GARBAGE = bytes(range(256)) * 4096 + b"\x1b]0;owned\x07\x1b[2J"
"""A megabyte of every byte there is, and orders to a terminal."""


class Faulty(PlainNumpy):
    def __init__(self, protocol, departures, device, threads, fault):
        super().__init__(protocol, departures, device, threads)
        self.fault, self.warm = "none" if os.environ.get("FAULTY") == "mended" else fault, False

    def warm_up(self, *arguments):
        super().warm_up(*arguments)
        self.warm = True

    def train_epoch(self, x, y, order, progress=silent, wait=False):
        if self.warm and not wait:
            self.go_wrong()
        if wait and self.fault == "probe":
            raise RuntimeError("the device was lost")
        losses, correct = super().train_epoch(x, y, order, progress, wait)
        if self.warm and self.fault == "nan":
            losses[:] = np.nan
        if self.warm and self.fault == "diverges":
            losses *= np.float32(10) ** np.arange(0, 20 * len(losses), 20, dtype=np.float32)
        return losses, correct

    def go_wrong(self):
        if self.fault == "memory":
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
            np.ones(8 << 30, np.uint8)
        elif self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "crash":
            ctypes.string_at(0)
        elif self.fault == "abort":
            print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
            os.abort()
        elif self.fault == "leaves":
            sys.exit(0)
        elif self.fault == "exits":
            print("the licence has expired", flush=True)
            os._exit(0)
        elif self.fault == "hangs":
            print("waiting for a peer", flush=True)
            time.sleep(3600)
        elif self.fault.startswith("garbage"):
            os.write(1, GARBAGE)
            os.write(2, GARBAGE)
            if self.fault == "garbage-crash":
                os.kill(os.getpid(), signal.SIGSEGV)

    def kernels(self, x, y):
        if self.fault == "profile":
            raise RuntimeError("the profiler crashed at its end")
        if self.fault == "profile-crash":
            ctypes.string_at(0)
        if self.fault == "profile-hangs":
            print("waiting for the profiler", flush=True)
            time.sleep(3600)
        return []
