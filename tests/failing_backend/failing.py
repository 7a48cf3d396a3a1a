"""A backend that fails as soon as it is made, as one does whose framework does not know the processor."""

from levelfield.backends.torch import Torch

BACKENDS = {"never": {"image": "torch", "framework": "torch"}}


class Never(Torch):
    def __init__(self, protocol, departures, device, threads):
        raise RuntimeError("no kernel of this framework runs on this processor")
