"""The convolutional model in PyTorch: an `nn.Module` that holds sequences as (batch, channels, time)."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from levelfield.models.cnn import CONVOLUTIONS, DROPOUT, Cnn
from levelfield.study.protocol import Protocol

DEPARTURES = ("own-dropout", "framework-init")
FRAMEWORK_INIT = {"embedding": ("normal", 1.0), "kernel": ("uniform", "1/sqrt(fan_in)"), "bias": ("uniform", "1/sqrt(fan_in)")}


class Model(nn.Module):
    """Embedding, two convolutions, the maximum over time, two dense layers."""

    def __init__(self, protocol: Protocol, departures: frozenset[str]):
        super().__init__()
        sizes = Cnn.of(protocol)
        self.embedding = nn.Embedding(protocol.vocabulary, sizes.embedding)
        self.conv_1 = nn.Conv1d(sizes.embedding, sizes.filters, sizes.width, sizes.stride)
        self.conv_2 = nn.Conv1d(sizes.filters, sizes.filters, sizes.width, sizes.stride)
        self.hidden = nn.Linear(sizes.filters, sizes.dense)
        self.dense = nn.Linear(sizes.dense, sizes.outputs)
        self.dropout = nn.Dropout(DROPOUT) if "own-dropout" in departures else None
        self.mixed_precision = protocol.precision == "bfloat16"

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int32 (batch, length) -> logits float32 (batch, outputs)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed_precision):
            features = self.embedding(tokens)
            if self.dropout:
                features = self.dropout(features)
            features = self.conv_1(features.mT).relu()
            features = self.conv_2(features).relu()
            features = features.amax(dim=2)  # shares a tie's gradient evenly, where max(dim=2) gives it to one
            features = self.hidden(features).relu()
            if self.dropout:
                features = self.dropout(features)
        logits: torch.Tensor = self.dense(features.float())
        return logits

    def layout(self) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor], tuple[torch.Tensor, ...]]]:
        """Canonical name, the canonical view of an own tensor, and the parameters whose sum the weight is."""
        yield "embedding", lambda table: table, (self.embedding.weight,)
        for name in (*CONVOLUTIONS, "hidden", "dense"):
            layer = getattr(self, name)
            # a convolution's (filters, inputs, width), a dense layer's (units, inputs): the canonical axes in reverse
            yield f"{name}/kernel", lambda kernel: kernel.permute(*reversed(range(kernel.ndim))), (layer.weight,)
            yield f"{name}/bias", lambda bias: bias, (layer.bias,)
