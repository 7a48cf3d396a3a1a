"""One backend under each precision, and twice deterministically, on a small size of each model: prints what came out as JSON."""

import json
import sys

import numpy as np

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.level.start import make_start
from levelfield.models.bilstm import BiLstm
from levelfield.models.cnn import Cnn
from levelfield.models.transformer import Transformer
from levelfield.study.protocol import Protocol

SIZES = {"vocabulary": 500, "length": 16, "epochs": 1}
MODELS = {
    "bilstm": BiLstm(embedding=32, units=16),
    "transformer": Transformer(),
    "cnn": Cnn(embedding=32, filters=32, width=3, stride=2, dense=32),
}
SETTINGS = {
    "float32": {},
    "tf32": {"precision": "tf32"},
    "bfloat16": {"precision": "bfloat16"},
    "deterministic": {"deterministic": True},
    "deterministic again": {"deterministic": True},
}


def main(name: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(3, 500, (96, 16)).astype(np.int32)
    threads, make = confine("cpu", 2), load_backend(name)
    assert set(MODELS) == set(registry.models())
    print(json.dumps({model: {label: tried(make, threads, x, model, label) for label in SETTINGS} for model in MODELS}))


def tried(make, threads: int, x: np.ndarray, model: str, label: str) -> dict:
    protocol = Protocol(model=MODELS[model], **SIZES, **SETTINGS[label])
    y = (x[:, -1] % 2).astype(np.float32 if protocol.model.outputs == 1 else np.int32)
    start = make_start(protocol, 7, len(x))
    backend = make(protocol, frozenset(), "cpu", threads)
    backend.load(start.weights)
    logits = backend.predict(x)
    losses, _ = backend.train_epoch(x, y, start.order[0].astype(np.int64))
    types = sorted({str(value.dtype) for value in backend.weights().values()})
    return {"logits": logits.tolist(), "losses": losses.tolist(), "weights": types}


if __name__ == "__main__":
    main(sys.argv[1])
