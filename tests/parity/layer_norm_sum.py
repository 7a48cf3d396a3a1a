"""LayerNorm's β in PyTorch on a CPU: its gradient is a sum over rows, added up one after another in float32 (run me)."""

import numpy as np
import torch

for batch in (1, 32, 1024):
    rows = batch * 200
    norm, slopes = torch.nn.LayerNorm(32), torch.full((rows, 32), 1 / rows) * 1.1
    norm(torch.randn(rows, 32)).backward(slopes)
    exact = slopes.double().sum(0)
    off = (norm.bias.grad.double() - exact).abs().max() / exact.abs().max()
    pairwise = np.abs(slopes.numpy().T.copy().sum(axis=1) - exact.numpy()).max() / exact.abs().max()
    print(f"torch {torch.__version__}, {rows} rows: β's gradient is off by {off:.1e}, NumPy's pairwise sum by {pairwise:.1e}")
