"""Muon against what it should be: orthogonal steps, torch's own on matrices, AdamW on the rest."""

import pytest
import torch
from torch import nn

from vaelab.muon import Muon, orthogonal
from vaelab.objectives import Elbo
from vaelab.training import adamw, fit


@pytest.mark.parametrize("shape", [(4, 9), (16, 16), (32, 5)])
def test_orthogonal(shape):
    """Same singular vectors, singular values near 1."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonal(matrix) @ v.T
    kept = values / values.max() > 0.05  # what is next to nothing takes more than five steps
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-4
    assert 0.6 < turned.diagonal()[kept].min() and turned.diagonal().max() < 1.25


def test_as_torchs_own_on_a_matrix():
    """Three steps of kernels of one pixel are three steps of `torch.optim.Muon`, which computes in bfloat16."""
    draw = torch.Generator().manual_seed(1)
    start, gradients = torch.randn(12, 6, generator=draw), torch.randn(3, 12, 6, generator=draw)
    ours, theirs = nn.Parameter(start.clone()[..., None, None]), nn.Parameter(start.clone())
    steppers = Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02, weight_decay=1e-4, momentum=0.95)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone()[..., None, None], gradient.clone()
        for stepper in steppers:
            stepper.step()
    moved = (theirs.detach() - start).norm()
    assert (ours.detach()[..., 0, 0] - theirs.detach()).norm() < 0.03 * moved
    assert moved > 0.05


def test_the_rest_is_adamw():
    draw = torch.Generator().manual_seed(2)
    start = torch.randn(7, generator=draw)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    steppers = Muon([ours], lr=0.02), adamw([theirs], 0.02 * Muon.REST)
    for gradient in torch.randn(4, 7, generator=draw):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for stepper in steppers:
            stepper.step()
    assert torch.equal(ours, theirs)


class Sharpen(nn.Module):
    """Learns to undo a fixed filter: a problem with directions of very different size."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1))
        self.register_buffer("blur", torch.full((3, 1, 3, 3), 1 / 9))

    def forward(self, x, generator=None):
        blurred = nn.functional.conv2d(x, self.blur, padding=1, groups=3)
        error = (self.layers(blurred) - x).square().flatten(1).sum(1)
        return Elbo(-error, torch.zeros(len(x)))


def trained(optimizer, checkpoint=None, stop=None):
    torch.manual_seed(0)
    model = Sharpen()
    pictures = torch.rand(64, 3, 12, 12, generator=torch.Generator().manual_seed(3))

    def objective(terms, step):
        if step == stop:
            raise KeyboardInterrupt
        return -terms.reconstruction.mean()

    settings = {"optimizer": optimizer, "learning_rate": 0.02, "batch_size": 16, "progress": False}
    settings |= {"objective": objective, "checkpoint": checkpoint, "checkpoint_every": 10, "record_every": 10}
    fit(model, pictures, steps=60, **settings)
    return model


def test_resumes_bit_exactly(tmp_path):
    whole = trained(Muon)
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        trained(Muon, state, stop=37)
    resumed = trained(Muon, state)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="optimizer"):
        trained(adamw, state)
