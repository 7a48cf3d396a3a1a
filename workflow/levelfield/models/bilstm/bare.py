"""The bare fused LSTM on a GPU: both layers in one cuDNN call each way, through PyTorch, whichever backend is measured."""

import time
from statistics import median

from levelfield.models.bilstm import BiLstm
from levelfield.study.protocol import Protocol


def step_seconds(protocol: Protocol, steps: int = 50) -> float:
    """Seconds of one forward and backward pass of the protocol's two LSTM layers alone; the median of `steps`."""
    import torch

    sizes = BiLstm.of(protocol)
    torch.backends.cudnn.allow_tf32 = protocol.precision == "tf32"
    dtype = torch.bfloat16 if protocol.precision == "bfloat16" else torch.float32
    lstm = torch.nn.LSTM(sizes.embedding, sizes.units, num_layers=2, bidirectional=True, device="cuda", dtype=dtype)
    shape = (protocol.length, protocol.batch_size)
    inputs = torch.randn(*shape, sizes.embedding, device="cuda", dtype=dtype, requires_grad=True)
    gradient = torch.randn(*shape, 2 * sizes.units, device="cuda", dtype=dtype)
    seconds = []
    for _ in range(5 + steps):
        torch.cuda.synchronize()
        began = time.monotonic()
        lstm(inputs)[0].backward(gradient)
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    return median(seconds[5:])
