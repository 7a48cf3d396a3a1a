"""The bidirectional LSTM in PyTorch: an `nn.Module`."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from levelfield.models.bilstm import BiLstm
from levelfield.study.protocol import Protocol

DEPARTURES = ("last-step-output", "extra-tanh", "second-bias", "naive-init", "adapted-init")


class Model(nn.Module):
    """Embedding, two bidirectional LSTM layers, and the logits from the last layer's two final states."""

    def __init__(self, protocol: Protocol, departures: frozenset[str]):
        super().__init__()
        sizes = BiLstm.of(protocol)
        self.embedding = nn.Embedding(protocol.vocabulary, sizes.embedding)
        self.lstm = nn.LSTM(sizes.embedding, sizes.units, num_layers=2, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(2 * sizes.units, sizes.outputs)
        self.last_step = "last-step-output" in departures
        self.tanh = "extra-tanh" in departures
        self.mixed_precision = protocol.precision == "bfloat16"
        if "second-bias" not in departures:
            # cuDNN's parametrisation has two biases; the second one stays 0, as in the protocol's model there is none
            for name, parameter in self.lstm.named_parameters():
                if name.startswith("bias_hh"):
                    parameter.requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int32 (batch, length) -> logits (batch, outputs)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed_precision):
            output, (hidden, _) = self.lstm(self.embedding(tokens))
        # final states: the forward direction's after the last token, the backward direction's after the first
        features = output[:, -1] if self.last_step else torch.cat((hidden[-2], hidden[-1]), dim=1)
        if self.tanh:
            features = torch.tanh(features)
        logits: torch.Tensor = self.dense(features.float())
        return logits

    def layout(self) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor], tuple[torch.Tensor, ...]]]:
        """Canonical name, how an own tensor is seen in the canonical layout, and the parameters whose sum it is."""
        yield "embedding", torch.Tensor.detach, (self.embedding.weight,)
        for layer in (0, 1):
            for direction, suffix in (("forward", ""), ("backward", "_reverse")):
                own = {
                    part: getattr(self.lstm, f"{part}_l{layer}{suffix}")
                    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                canonical = f"lstm_{layer + 1}/{direction}"
                yield f"{canonical}/kernel", torch.t, (own["weight_ih"],)
                yield f"{canonical}/recurrent_kernel", torch.t, (own["weight_hh"],)
                yield f"{canonical}/bias", torch.Tensor.detach, (own["bias_ih"], own["bias_hh"])
        yield "dense/kernel", torch.t, (self.dense.weight,)
        yield "dense/bias", torch.Tensor.detach, (self.dense.bias,)
