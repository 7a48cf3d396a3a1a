"""Reads the encoded reviews of a study, each case with its own length."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.study.protocol import Protocol


def load_split(folder: Path, split: str, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """x int32 (sequences, protocol.length) and labels y (sequences,) of the split `train` or `val`: float32 where the model has
    one output, int32 class numbers where it has several.

    The data is kept with the longest length of the study; a shorter one is the side that truncation keeps, which holds
    where padding and truncation are on the same side (study.py asks for it).
    """
    x = np.load(Path(folder) / f"x_{split}.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(Path(folder) / f"y_{split}.npy", allow_pickle=False)
    kept = x[:, -protocol.length :] if protocol.truncation == "pre" else x[:, : protocol.length]
    return np.array(kept), y if protocol.model.outputs == 1 else y.astype(np.int32)


def load_description(folder: Path) -> dict[str, Any]:
    """The content of `data.json`."""
    told: dict[str, Any] = json.loads((Path(folder) / "data.json").read_text(encoding="utf-8"))
    return told
