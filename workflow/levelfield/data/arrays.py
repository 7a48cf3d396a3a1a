"""Reads the encoded reviews of a study, each case with its own length."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.errors import UserError
from levelfield.study.protocol import Protocol


def load_split(folder: Path, split: str, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """x int32 (sequences, protocol.length) and labels y (sequences,) of the split `train` or `val`: float32 where the model has
    one output, int32 class numbers where it has several.

    The data is kept with the longest length of the study; a shorter one is the side that truncation keeps, which holds
    where padding and truncation are on the same side (study.py asks for it). Raises UserError where a file is not the one
    that was written: both are hashed first.
    """
    folder = Path(folder)
    _refuse_altered(folder, f"x_{split}.npy", f"y_{split}.npy")
    x = np.load(folder / f"x_{split}.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(folder / f"y_{split}.npy", allow_pickle=False)
    kept = x[:, -protocol.length :] if protocol.truncation == "pre" else x[:, : protocol.length]
    return np.array(kept), y if protocol.model.outputs == 1 else y.astype(np.int32)


def load_description(folder: Path) -> dict[str, Any]:
    """The content of `data.json`; raises UserError where it is damaged."""
    file = Path(folder) / "data.json"
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from None
    if not isinstance(told, dict):
        raise _damaged(file, f"found a {type(told).__name__}")
    return told


def _damaged(file: Path, said: str) -> UserError:
    return UserError(
        f"{file} is damaged ({said}): put the right one back, or make the study's data anew with `--config replace=data`"
    )


def _refuse_altered(folder: Path, *names: str) -> None:
    """Raises UserError where a file has not the sha256 that `data.json` tells; older ones do not tell it."""
    written = load_description(folder).get("arrays") or {}
    for name in names:
        expected = written.get(name, {}).get("sha256")
        if expected is None:
            continue
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise UserError(
                f"{folder / name} is altered: sha256 {found}, written with {expected}; delete it and run snakemake again"
            )


def refuse_unfit(title: str, labels: Sequence[str], outputs: Iterable[tuple[str, int]]) -> None:
    """Raises UserError where a model has another number of outputs than the data has labels; one output serves two.

    outputs: (name of the model, its outputs) of each model that differs. title: what the data is called.
    """
    classes = len(labels)
    for model, found in outputs:
        if found != classes and not (found == 1 and classes == 2):
            names = ", ".join(labels[:6]) + (", …" if classes > 6 else "")
            right = f"model: {{name: {model}, outputs: {1 if classes == 2 else classes}}}"
            raise UserError(
                f"protocol.model.outputs: found {found} of {model}, but {title} has {classes} labels ({names}): write "
                f"`protocol: {{{right}}}`, which holds for the models in `vary`, too; a case's own model is written as "
                f"`settings: {{{right}}}` in `cases`"
            )
