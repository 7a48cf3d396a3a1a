"""PyTorch: where Adam's ε stands, against the form that Keras documents, worked by hand (run me)."""

import torch

gradient, rate, beta_2, epsilon = 1e-7, 1e-3, 0.999, 1e-7
for name, given in (("eps = ε", epsilon), ("eps = ε / √(1 − β₂^t)", epsilon / (1 - beta_2) ** 0.5)):
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    weight.grad = torch.full_like(weight, gradient)
    torch.optim.Adam([weight], lr=rate, betas=(0.9, beta_2), eps=given).step()
    print(f"torch {torch.__version__}, {name}: moved by {weight.item():.3e}")
by_hand = -rate * (1 - beta_2) ** 0.5 * gradient / ((1 - beta_2) ** 0.5 * gradient + epsilon)
print(f"Keras's form by hand, α_t · m / (√v + ε): moved by {by_hand:.3e}")
