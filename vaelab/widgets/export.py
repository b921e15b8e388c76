"""A decoder as numbers a browser can run: its layers in order, and its weights in half precision."""

import base64
import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from vaelab.distributions import BernoulliLikelihood
from vaelab.models import LatentModel

MAX_PARAMETERS = 150_000
MAX_MULTIPLY_ADDS = 15_000_000

POINTWISE = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.LeakyReLU: "leaky"}
CONVOLUTIONS = {nn.Conv2d: "conv", nn.ConvTranspose2d: "deconv"}


def layers(decoder: nn.Module) -> nn.Sequential:
    """The decoder's leaf layers in order, weights rounded to half precision, in float64.

    `decoder` takes codes (N, 2) and gives pictures (N, C, H, W): a module whose layers run one after the other,
    or a `vaelab` model, whose `decode(z).mean` is meant.

    Raises TypeError for a layer the browser cannot run, or if the module does more than run its layers in order;
    ValueError if the codes are not two numbers.
    """
    modules = list(_leaves(decoder.decoder if isinstance(decoder, LatentModel) else decoder))
    if isinstance(decoder, LatentModel) and isinstance(decoder.likelihood, BernoulliLikelihood):
        modules.append(nn.Sigmoid())
    for module in modules:
        _check(module)
    if not isinstance(modules[0], nn.Linear) or modules[0].in_features != 2:
        raise ValueError(f"The explorer maps two-dimensional codes; this decoder begins with {modules[0]}.")
    _check_order(decoder, nn.Sequential(*modules))
    return nn.Sequential(*[_rounded(module) for module in modules]).eval()


def count_parameters(decoder: nn.Module) -> int:
    """Numbers the page has to carry."""
    return sum(parameter.numel() for module in layers(decoder) for parameter in module.parameters())


def count_multiply_adds(decoder: nn.Module) -> int:
    """Multiplications the browser does for one picture."""
    return sum(_multiply_adds(module, before, after) for module, before, after in _trace(layers(decoder)))


def check_budget(decoder: nn.Module) -> None:
    """Raises ValueError if the decoder is too heavy for a page or too slow for a browser."""
    parameters, work = count_parameters(decoder), count_multiply_adds(decoder)
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"The decoder has {parameters:,} parameters; a page carries {MAX_PARAMETERS:,}: take fewer channels.")
    if work > MAX_MULTIPLY_ADDS:
        raise ValueError(
            f"The decoder needs {work:,} multiply-adds a picture; a browser keeps up with {MAX_MULTIPLY_ADDS:,}: "
            "take fewer channels near full size."
        )


def pack(sequence: nn.Sequential) -> dict:
    """`layers(decoder)` as the description `engine.js` runs: {layers, weights (base64 float16), c, h, w}."""
    described, chunks = [], []
    for module, before, after in _trace(sequence):
        offsets = {}
        for key, values in _weights(module).items():
            offsets[key] = sum(map(len, chunks))
            chunks.append(values.detach().numpy().astype("<f2").ravel())
        described.append({**_describe(module, before, after), **offsets})
    weights = base64.b64encode(np.concatenate(chunks).tobytes()).decode()
    c, h, w = after
    return {"layers": described, "weights": weights, "c": c, "h": h, "w": w}


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    children = list(module.children())
    if not children and not isinstance(module, nn.Identity):
        yield module
    for child in children:
        yield from _leaves(child)


def _check(module: nn.Module) -> None:
    plain = type(module) in {*POINTWISE, nn.Linear, nn.Unflatten}
    norm = isinstance(module, nn.GroupNorm) and module.affine
    shuffle = isinstance(module, nn.PixelShuffle) and module.upscale_factor == 2
    upsample = isinstance(module, nn.Upsample) and module.mode == "nearest" and float(module.scale_factor or 0) == 2
    if not (plain or norm or shuffle or upsample or _plain_convolution(module)):
        raise TypeError(f"The explorer's JavaScript cannot run the layer {module}.")


def _plain_convolution(module: nn.Module) -> bool:
    return (
        type(module) in CONVOLUTIONS
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and len({*module.kernel_size}) == len({*module.padding}) == len({*module.stride}) == 1
        and module.output_padding == (0, 0)
        and (isinstance(module, nn.ConvTranspose2d) or module.stride == (1, 1))
    )


def _check_order(decoder: nn.Module, sequence: nn.Sequential) -> None:
    z = torch.tensor([[0.0, 0.0], [0.7, -1.3]])
    with torch.no_grad():
        expected = decoder.decode(z).mean if isinstance(decoder, LatentModel) else decoder(z)
        if expected.ndim != 4 or expected.shape[1] not in (1, 3):
            raise ValueError(f"The decoder must give pictures (N, 1 or 3, H, W); these are {tuple(expected.shape)}.")
        if not torch.allclose(sequence(z).clamp(0, 1), expected.clamp(0, 1), atol=1e-5):
            raise TypeError(f"{type(decoder).__name__} does more than run its layers in order; give an nn.Sequential.")


def _rounded(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().requires_grad_(False).half().double()


def _trace(sequence: nn.Sequential) -> Iterator[tuple[nn.Module, tuple, tuple]]:
    """Each layer with the shape before and after it, the batch left out."""
    x = torch.zeros(1, 2, dtype=torch.float64)
    for module in sequence:
        before, x = x, module(x)
        yield module, tuple(before.shape[1:]), tuple(x.shape[1:])


def _multiply_adds(module: nn.Module, before: tuple, after: tuple) -> int:
    if isinstance(module, nn.Linear):
        return module.weight.numel()
    if type(module) in CONVOLUTIONS:
        _, h, w = before if isinstance(module, nn.ConvTranspose2d) else after
        return h * w * module.weight.numel()
    return 0


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A layer's weight `w` and bias `b`, in the order that `engine.js` reads."""
    if not hasattr(module, "weight"):
        return {}
    order = {nn.Linear: (1, 0), nn.Conv2d: (0, 2, 3, 1), nn.ConvTranspose2d: (1, 2, 3, 0), nn.GroupNorm: (0,)}
    weight = module.weight.permute(order[type(module)])
    bias = torch.zeros(_outputs(module)) if module.bias is None else module.bias
    return {"w": weight, "b": bias}


def _outputs(module: nn.Module) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def _describe(module: nn.Module, before: tuple, after: tuple) -> dict:
    if type(module) in POINTWISE:
        return {"t": POINTWISE[type(module)], "slope": getattr(module, "negative_slope", 0)}
    if isinstance(module, nn.Linear):
        return {"t": "linear", "out": module.out_features}
    if isinstance(module, nn.Unflatten):
        return {"t": "view", **dict(zip(("c", "h", "width"), after, strict=True))}
    shape = dict(zip(("c", "h", "width"), before, strict=True))
    if isinstance(module, nn.GroupNorm):
        return {"t": "norm", **shape, "groups": module.num_groups, "eps": module.eps}
    if type(module) in CONVOLUTIONS:
        sizes = {"k": module.kernel_size[0], "p": module.padding[0], "s": module.stride[0]}
        out, H, W = after
        return {"t": CONVOLUTIONS[type(module)], **shape, **sizes, "out": out, "H": H, "W": W}
    return {"t": "up" if isinstance(module, nn.Upsample) else "shuffle", **shape}
