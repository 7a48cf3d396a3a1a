"""The bias of attention's keys: what it adds to a query's scores is the same for all keys, softmax takes it out (run me)."""

import torch
from torch.nn.functional import scaled_dot_product_attention

for dtype in (torch.float32, torch.float64):
    torch.manual_seed(0)
    features = torch.randn(1, 200, 32, dtype=dtype)
    query, key, value = (torch.nn.Linear(32, 32, dtype=dtype) for _ in range(3))
    attended = scaled_dot_product_attention(query(features), key(features), value(features))
    attended.square().sum().backward()
    largest = {name: layer.bias.grad.abs().max().item() for name, layer in {"query": query, "key": key, "value": value}.items()}
    told = ", ".join(f"{name} {slope:.1e}" for name, slope in largest.items())
    print(f"torch {torch.__version__}, {dtype}: largest gradient of a bias: {told}")
    with torch.no_grad():
        moved = scaled_dot_product_attention(query(features), key(features) + 1, value(features))
    print(f"every entry of the keys' bias raised by 1 moves what comes out by {(moved - attended).abs().max().item():.1e}")
