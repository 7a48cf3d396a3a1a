"""The bag of words in PyTorch."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from levelfield.study.protocol import Protocol

DEPARTURES = ("sum-of-words",)


class Model(nn.Module):
    """An embedding bag and a dense layer."""

    def __init__(self, protocol: Protocol, departures: frozenset[str]):
        super().__init__()
        sizes = protocol.model
        mode = "sum" if "sum-of-words" in departures else "mean"
        self.bag = nn.EmbeddingBag(protocol.vocabulary, sizes.embedding, mode=mode)
        self.dense = nn.Linear(sizes.embedding, sizes.outputs)
        self.mixed_precision = protocol.precision == "bfloat16"

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int32 (batch, length) -> logits float32 (batch, outputs)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed_precision):
            features = self.bag(tokens)
        return self.dense(features.float())

    def layout(self) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor], tuple[nn.Parameter, ...]]]:
        """Canonical name, the canonical view of an own tensor, and the parameters whose sum the weight is."""
        yield "embedding", lambda table: table, (self.bag.weight,)
        yield "dense/kernel", torch.t, (self.dense.weight,)
        yield "dense/bias", lambda bias: bias, (self.dense.bias,)
