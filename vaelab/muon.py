"""Muon for networks of convolutions: a stage gets further in as many steps (`python -m benchmarks.optimizers`)."""

import torch


class Muon(torch.optim.AdamW):
    """Steps every kernel in an orthogonal direction, and everything else by AdamW.

    A kernel `(out, in, h, w)` is taken as a matrix `(out, in · h · w)`. Its momentum is replaced by the nearest matrix
    with orthogonal rows or columns, so that no direction that many pictures agree on drowns the others (Jordan et al.
    2024, kellerjordan.github.io/posts/muon; `torch.optim.Muon` is the same for matrices alone).

    Args:
        parameters: of a network.
        lr: how far a step of a kernel goes; the rest is learned at `REST` times that.
        momentum: of the kernels' gradients.
    """

    REST = 0.15

    def __init__(self, parameters, lr=0.02, momentum=0.95):
        parameters = list(parameters)
        rest = {"params": [p for p in parameters if p.ndim != 4], "lr": self.REST * lr}
        kernels = {"params": [p for p in parameters if p.ndim == 4], "lr": lr}
        super().__init__([kernels, rest], weight_decay=1e-4, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure=None):
        """One step; the kernels' gradients are used up by it, and None afterwards."""
        kernels = self.param_groups[0]
        for kernel in kernels["params"]:
            if kernel.grad is None:
                continue
            state = self.state[kernel]
            if not state:  # "step" is for AdamW, which looks for it when a state is loaded
                state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(kernel)}
            state["momentum"].lerp_(kernel.grad, 1 - self.momentum)
            ahead = kernel.grad.lerp(state["momentum"], self.momentum).flatten(1)  # Nesterov's
            tall = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
            kernel.mul_(1 - kernels["lr"] * kernels["weight_decay"])
            kernel.sub_(orthogonal(ahead).view_as(kernel), alpha=kernels["lr"] * tall)
            kernel.grad = None
        return super().step(closure)


def orthogonal(matrix, steps=5):
    """A matrix with the singular vectors of `matrix` `(n, m)` and all singular values near 1 (0.7 to 1.2).

    By the polynomial of Jordan et al. 2024, which trades exactness for five steps.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide is matrix else x.T
