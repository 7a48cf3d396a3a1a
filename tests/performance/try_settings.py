"""One backend under each precision, and twice deterministically, on a small model: prints what came out as JSON."""

import json
import sys

import numpy as np

from levelfield.backends import confine, load_class
from levelfield.level.start import make_start
from levelfield.study.protocol import Protocol

SIZES = {"vocabulary": 500, "length": 16, "embedding": 32, "units": 16, "epochs": 1}


def main(name: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(3, 500, (96, 16)).astype(np.int32)
    y = (x[:, -1] % 2).astype(np.float32)
    threads, found = confine("cpu", 2), {}
    backend_class = load_class(name)
    for label, settings in {
        "float32": {},
        "tf32": {"precision": "tf32"},
        "bfloat16": {"precision": "bfloat16"},
        "deterministic": {"deterministic": True},
        "deterministic again": {"deterministic": True},
    }.items():
        protocol = Protocol(**SIZES, **settings)
        start = make_start(protocol, 7, len(x))
        backend = backend_class(protocol, frozenset(), "cpu", threads)
        backend.load(start.weights)
        logits = backend.predict(x)
        losses, _ = backend.train_epoch(x, y, start.order[0].astype(np.int64))
        found[label] = {
            "logits": logits.tolist(),
            "losses": losses.tolist(),
            "weights": sorted({str(value.dtype) for value in backend.weights().values()}),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
