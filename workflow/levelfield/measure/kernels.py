"""Which LSTM kernel ran, read off the names in a profile of one training step."""

import re
from collections.abc import Iterable

OF_LSTM = re.compile(r"rnn|lstm|mkl|onednn|^while", re.IGNORECASE)
"""cuDNN's and oneDNN's LSTM, operations that call them, products of oneDNN (TensorFlow: `_Mkl…`), and the loop over time
steps that a framework without a fused LSTM compiles."""
NOT_KERNELS = re.compile(r"^\$|Backward\d+$|autograd|^Iterator")
"""Python's own frames in JAX's profiles, nodes of PyTorch's backward graph, TensorFlow's input pipeline."""
CUDNN = re.compile(r"cudnn_?rnn|cudnn.*lstm|rnn_block|lstm_elementwise|persist.*(rnn|lstm)|elemwisernn", re.IGNORECASE)
"""Operations of PyTorch (`aten::_cudnn_rnn`), TensorFlow (`CudnnRNNV3`), JAX (`cudnn_rnn…`), and cuDNN's own kernels
(`RNN_blockPersist_fp_LSTM`, `LSTM_elementWise_fp`, `elemWiseRNNcell`)."""
ONEDNN = re.compile(r"(mkldnn|onednn).*(rnn|lstm)", re.IGNORECASE)


def of_lstm(names: Iterable[str]) -> list[str]:
    """The names that tell how the LSTM was computed, sorted, without template arguments, numbers and paths."""
    return sorted({plain for name in names if OF_LSTM.search(plain := _plain(name)) and not NOT_KERNELS.search(plain)})


def verdict(names: Iterable[str]) -> str | None:
    """`cuDNN` or `oneDNN` where their fused LSTM ran, `not fused` where the profile names others; None without a profile."""
    names = list(names)
    if not names:
        return None
    if any(CUDNN.search(name) for name in names):
        return "cuDNN"
    return "oneDNN" if any(ONEDNN.search(name) for name in names) else "not fused"


def _plain(name: str) -> str:
    """`void cudnn::rnn::f<float, 3>(int)` -> `cudnn::rnn::f`; `model/lstm/while:While` -> `While`; `fusion.12` -> `fusion`."""
    name = re.sub(r"^void ", "", re.split(r"[<(]", name)[0])
    if "::" not in name:
        name = name.rpartition(":")[2]
    return re.sub(r"(\.\d+)+$", "", name).strip()
