"""Plain encoders and decoders. An encoder maps pictures `(N, C, H, W)` to `(N, outputs)`, a decoder maps back.

No BatchNorm: the encoding of a picture must not depend on the pictures beside it.
"""

import math
from itertools import pairwise

import torch
from torch import nn


def MLPEncoder(shape, outputs, hidden=(512, 256)):
    """Pictures of `shape` (C, H, W) -> `(N, outputs)` through fully connected layers."""
    sizes = [math.prod(shape), *hidden]
    layers = [nn.Flatten()]
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def MLPDecoder(latent, shape, hidden=(256, 512)):
    """`(N, latent)` -> pictures of `shape` (C, H, W) through fully connected layers."""
    sizes = [latent, *hidden]
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], math.prod(shape)), nn.Unflatten(1, tuple(shape)))


def normalise(channels, groups):
    """GroupNorm, or nothing where `groups` is 0."""
    return [nn.GroupNorm(math.gcd(groups, channels), channels)] if groups else []


def ConvEncoder(shape, outputs, channels=(32, 64, 128, 128), groups=8):
    """Pictures of `shape` (C, H, W) -> `(N, outputs)`; each level halves height and width (4×4 kernels, stride 2)."""
    check_divisible(shape, channels)
    layers, before = [], shape[0]
    for width in channels:
        layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), *normalise(width, groups), nn.SiLU()]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * smallest_area(shape, channels), outputs))


def ConvDecoder(latent, shape, channels=(128, 128, 64, 32), groups=8):
    """`(N, latent)` -> pictures of `shape` (C, H, W); each level doubles height and width.

    A 4×4 transposed convolution of stride 2 covers every output pixel equally often and starts with four equal
    phases (see `equal_phases`), and a 3×3 convolution at full size has the last word: so no checkerboard, at the
    speed of strided convolutions.
    """
    check_divisible(shape, channels)
    scale = 2 ** len(channels)
    small = (channels[0], shape[1] // scale, shape[2] // scale)
    layers = [nn.Linear(latent, math.prod(small)), nn.Unflatten(1, small), nn.SiLU()]
    for before, width in zip(channels, (*channels[1:], channels[-1]), strict=True):
        up = nn.ConvTranspose2d(before, width, 4, stride=2, padding=1)
        equal_phases(up)
        layers += [up, *normalise(width, groups), nn.SiLU()]
    last = nn.Conv2d(channels[-1], shape[0], 3, padding=1)
    nn.init.constant_(last.bias, 0.5)  # an untrained decoder paints mid-grey
    return nn.Sequential(*layers, last)


def equal_phases(layer):
    """Starts a 4×4, stride-2 transposed convolution with the same 2×2 kernel for each of the four output phases.

    Unequal phases are what a checkerboard is (Odena, Dumoulin & Olah 2016; Aitken et al. 2017 do this for
    sub-pixel convolutions).
    """
    with torch.no_grad():
        kernel = layer.weight[:, :, ::2, ::2].clone()
        layer.weight.copy_(kernel.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def smallest_area(shape, channels):
    scale = 2 ** len(channels)
    return (shape[1] // scale) * (shape[2] // scale)


def check_divisible(shape, channels):
    scale = 2 ** len(channels)
    if shape[1] % scale or shape[2] % scale:
        raise ValueError(
            f"Pictures of {shape[1]}×{shape[2]} cannot be halved {len(channels)} times; "
            f"make both sides a multiple of {scale}, or give fewer channels."
        )
