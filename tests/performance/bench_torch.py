"""The torch backend's training against the usual tutorial loop, written plainly, on the same data and threads."""

import numpy as np
import torch
from pairs import THREADS, paired, sequences
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from levelfield.backends import load_backend
from levelfield.level.start import make_start
from levelfield.study.protocol import Protocol

STEPS = 25


class Tutorial(nn.Module):
    """The protocol's model as a tutorial has it."""

    def __init__(self, protocol: Protocol):
        super().__init__()
        sizes = protocol.model
        self.embedding = nn.Embedding(protocol.vocabulary, sizes.embedding)
        self.lstm = nn.LSTM(sizes.embedding, sizes.units, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * sizes.units, 1)

    def forward(self, tokens):
        _, (hidden, _) = self.lstm(self.embedding(tokens))
        return self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)).squeeze(1)


def tutorial(protocol: Protocol, x: np.ndarray, y: np.ndarray, trained: nn.Module, device: str):
    """One epoch of the usual loop: DataLoader over a TensorDataset, `.item()` each step, plain Adam.

    It begins from the same weights, so that the loop alone differs: from PyTorch's own start, whose gradients fade into subnormal
    numbers, it was six times slower on the first machine that it was tried on.
    """
    model = Tutorial(protocol).to(device)
    for own, other in ((model.embedding, trained.embedding), (model.lstm, trained.lstm), (model.fc, trained.dense)):
        own.load_state_dict(other.state_dict())
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.BCEWithLogitsLoss()
    loader = DataLoader(TensorDataset(torch.from_numpy(x).long(), torch.from_numpy(y)), batch_size=protocol.batch_size)

    def epoch():
        model.train()
        total_loss, correct = 0.0, 0
        for tokens, labels in loader:
            tokens, labels = tokens.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(tokens)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            correct += ((logits > 0) == (labels > 0.5)).sum().item()
        return total_loss / len(loader), correct / len(x)

    return epoch


def measure(device: str = "cpu") -> dict:
    """Medians of alternating pairs: `ratio` (the backend over the tutorial), `ours_seconds`, `theirs_seconds` a step."""
    protocol = Protocol()
    x, y = sequences(protocol, STEPS * protocol.batch_size)
    backend = load_backend("torch")(protocol, frozenset(), device, THREADS)
    start = make_start(protocol, 0, len(x))
    backend.load(start.weights)
    order = start.order[0].astype(np.int64)
    plain = tutorial(protocol, x[order], y[order], backend.model, backend.device)
    return paired(lambda: backend.train_epoch(x, y, order), plain, STEPS, backend.synchronize)
