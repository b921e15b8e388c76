"""`AutoencoderKL`: the VAE stage of latent diffusion, with diffusers' blocks, key names and config.

Pictures here are in [0, 1], as everywhere in vaelab; the network inside works in [−1, 1], as its published weights do.
The latent keeps height and width, each divided by `factor` (Rombach et al. 2022, "f"), so any picture size goes in.
"""

import inspect
import json
import math
import re
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vaelab import storage
from vaelab.distributions import DiagonalGaussian, Gaussian
from vaelab.objectives import Elbo

WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
# What diffusers called attention's layers until 2023: many published weights still do.
LEGACY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class NotFinite(ArithmeticError):
    """A network painted values that are no numbers: a black picture, if nobody looks."""


def norm(channels, groups):
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two 3×3 convolutions with a way round them: `(N, before, H, W)` -> `(N, after, H, W)`."""

    def __init__(self, before, after, groups):
        super().__init__()
        self.norm1, self.conv1 = norm(before, groups), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = norm(after, groups), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.conv_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    """One head of self-attention over all places of the picture: what makes a tile see only its own tile."""

    def __init__(self, channels, groups):
        super().__init__()
        self.group_norm = norm(channels, groups)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        places = self.group_norm(x).flatten(2).transpose(1, 2)  # (N, H·W, C)
        # (N, one head, H·W, C): with fewer axes torch has no fast way, and takes nine times the memory on a CPU
        q, k, v = (layer(places)[:, None] for layer in (self.to_q, self.to_k, self.to_v))
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.to_out[0](seen).transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Half the height and width. One row and column of zeros, at the right and below only, as in LDM."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the height and width."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """ResNet blocks at one size, and the step to the next size where `sampler` is given."""

    def __init__(self, before, after, count, groups, sampler=None):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(before if i == 0 else after, after, groups) for i in range(count))
        if sampler:
            name = "downsamplers" if sampler is Downsample else "upsamplers"
            setattr(self, name, nn.ModuleList([sampler(after)]))

    def forward(self, x):
        for layers in self.children():
            for layer in layers:
                x = layer(x)
        return x


class Middle(nn.Module):
    """Two ResNet blocks at the smallest size, with attention between them if wanted."""

    def __init__(self, channels, groups, attention):
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups) for _ in range(2))

    def forward(self, x):
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Encoder(nn.Module):
    """Pictures in [−1, 1] `(N, C, H, W)` -> parameters of the posterior `(N, 2·latent, H/f, W/f)`."""

    def __init__(self, channels, widths, layers, outputs, groups, attention):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        before, last = (widths[0], *widths[:-1]), len(widths) - 1
        self.down_blocks = nn.ModuleList(
            Level(before[i], width, layers, groups, Downsample if i < last else None) for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, attention)
        self.conv_norm_out, self.conv_out = norm(widths[-1], groups), nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents `(N, latent, h, w)` -> pictures in [−1, 1], not clamped, `(N, C, f·h, f·w)`."""

    def __init__(self, latent, widths, layers, channels, groups, attention):
        super().__init__()
        widths = widths[::-1]
        self.conv_in = nn.Conv2d(latent, widths[0], 3, padding=1)
        before, last = (widths[0], *widths[:-1]), len(widths) - 1
        self.mid_block = Middle(widths[0], groups, attention)
        self.up_blocks = nn.ModuleList(
            Level(before[i], width, layers + 1, groups, Upsample if i < last else None)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out, self.conv_out = norm(widths[-1], groups), nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class AutoencoderKL(nn.Module):
    """The VAE stage (Rombach et al. 2022, section 3.1). Arguments are diffusers' config fields.

    Args:
        block_out_channels: channels at each size, largest picture first; their number sets the factor.
        layers_per_block: ResNet blocks a size in the encoder (the decoder has one more).
        latent_channels: numbers per place of the latent.
        scaling_factor, shift_factor: one number each; latents_mean, latents_std: one a channel (see `normalise`).
        sample_size, force_upcast, act_fn, down_block_types, up_block_types: kept for diffusers.
    """

    def __init__(
        self,
        in_channels=3,
        out_channels=3,
        down_block_types=(DOWN,),
        up_block_types=(UP,),
        block_out_channels=(64,),
        layers_per_block=1,
        act_fn="silu",
        latent_channels=4,
        norm_num_groups=32,
        sample_size=32,
        scaling_factor=0.18215,
        shift_factor=None,
        latents_mean=None,
        latents_std=None,
        force_upcast=True,
        use_quant_conv=True,
        use_post_quant_conv=True,
        mid_block_add_attention=True,
    ):
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.config = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
        widths, groups, attention = tuple(block_out_channels), norm_num_groups, mid_block_add_attention
        for name, block in (("down_block_types", DOWN), ("up_block_types", UP)):
            if set(given[name]) != {block}:
                raise ValueError(f"{name} holds {given[name]}, and only {block} is known here; use diffusers for this one.")
            self.config[name] = [block] * len(widths)
        if act_fn != "silu" or any(width % groups for width in widths):
            got = f"act_fn={act_fn!r}, norm_num_groups={groups}, block_out_channels={widths}"
            raise ValueError(f"act_fn must be 'silu' and norm_num_groups must divide every width; got {got}.")
        self.encoder = Encoder(in_channels, widths, layers_per_block, 2 * latent_channels, groups, attention)
        self.decoder = Decoder(latent_channels, widths, layers_per_block, out_channels, groups, attention)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1) if use_post_quant_conv else None
        self.factor = 2 ** (len(widths) - 1)
        # The width of `decode`'s distribution. Stage 1 learns it and leaves it here; diffusers has no field for it.
        self.register_buffer("log_sigma", torch.tensor(math.log(0.1)), persistent=False)

    def moments(self, x):
        """Pictures `(N, C, H, W)` in [0, 1] -> mean and log-variance in one tensor `(N, 2·latent, H/f, W/f)`."""
        raw = self.encoder(2 * x.to(self.encoder.conv_in.weight.dtype) - 1)
        return raw if self.quant_conv is None else self.quant_conv(raw)

    def encode(self, x):
        """The posterior q(z | x), a `DiagonalGaussian` of raw latents (see `normalise`), event `(latent, H/f, W/f)`."""
        mean, log_variance = finite(self.moments(x), "encoder").chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(-30, 20))

    def code(self, x):
        """The posterior mean `(N, latent, H/f, W/f)`: the picture's address."""
        return self.encode(x).mean

    def paint(self, z):
        """Raw latents `(N, latent, h, w)` -> pictures `(N, C, f·h, f·w)`, around [0, 1] and not clamped."""
        z = z.to(self.decoder.conv_in.weight.dtype)
        z = z if self.post_quant_conv is None else self.post_quant_conv(z)
        return finite(self.decoder(z) / 2 + 0.5, "decoder")

    def decode(self, z):
        """Raw latents `(N, latent, h, w)` -> the distribution of the picture; its `.mean` is `paint(z)`."""
        return Gaussian(self.paint(z), self.log_sigma)

    def reconstruct(self, x, tile=None, overlap=None, at_once=None):
        """The round trip through the posterior's mean, `(N, C, H, W)`, for any H and W; deterministic.

        Args:
            tile, overlap: pixels a side of the pieces it is done in, and that two of them share (default: all in
                one; a quarter); multiples of `factor`. See `tiled`.
            at_once: pictures that go through together (default: all); less memory, the same result. 1 is what
                diffusers calls slicing.
        """
        if at_once is not None:
            return torch.cat([self.reconstruct(part, tile, overlap) for part in x.split(at_once)])
        height, width = x.shape[-2:]
        padding = (0, -width % self.factor, 0, -height % self.factor)
        x = F.pad(x, padding, mode="replicate") if any(padding) else x
        if tile is None:
            y = self.paint(self.code(x))
        else:
            overlap = tile // 4 // self.factor * self.factor if overlap is None else overlap
            z = tiled(self.code, x, 1 / self.factor, tile, overlap)
            y = tiled(self.paint, z, self.factor, tile // self.factor, overlap // self.factor)
        return y[..., :height, :width]

    def forward(self, x, generator=None):
        """One-sample estimate of the ELBO of the pictures `x` `(N, C, H, W)`: an `Elbo`, nats per picture."""
        posterior = self.encode(x)
        return Elbo(self.decode(posterior.sample(generator)).log_prob(x), posterior.kl())

    def normalise(self, z):
        """Raw latents -> what a diffusion model is trained on: mean about 0, standard deviation about 1."""
        shift, scale = self._shift_and_scale(z)
        return (z - shift) * scale

    def denormalise(self, z):
        """The way back: what a diffusion model painted -> raw latents for `decode`."""
        shift, scale = self._shift_and_scale(z)
        return z / scale + shift

    def _shift_and_scale(self, z):
        config, scale = self.config, self.config["scaling_factor"]
        if config["latents_mean"] is None or config["latents_std"] is None:
            return config["shift_factor"] or 0.0, scale
        shift, std = (torch.tensor(config[f"latents_{name}"]).to(z).view(-1, 1, 1) for name in ("mean", "std"))
        return shift, scale / std

    @torch.no_grad()
    def fit_normaliser(self, pictures, per_channel=False, batch_size=64):
        """Measures the latents of *all* `pictures` `(N, C, H, W)` and sets the config fields that `normalise` uses.

        The spread is that of draws from the posteriors: variance of the means plus mean of the variances. One shift
        and one scale for all channels, or (`per_channel`) one each.
        """
        count, sums = 0, 0.0
        for batch in pictures.split(batch_size):
            posterior = self.encode(batch)
            mean, variance = posterior.mean.double(), posterior.variance.double()
            sums = sums + torch.stack([mean, mean**2 + variance]).sum((1, 3, 4))
            count += mean[:, 0].numel()
        mean, square = sums / count if per_channel else sums.sum(1, keepdim=True) / (count * sums.shape[1])
        std = (square - mean**2).sqrt()
        if per_channel:
            fields = {"scaling_factor": 1.0, "shift_factor": None, "latents_mean": mean.tolist()}
            fields["latents_std"] = std.tolist()
        else:
            fields = {"scaling_factor": 1 / float(std), "shift_factor": float(mean)}
            fields |= {"latents_mean": None, "latents_std": None}
        self.config |= fields
        return fields

    def save_pretrained(self, folder, half=False, record=None):
        """Writes a folder that diffusers' `AutoencoderKL.from_pretrained` reads too (`half`: weights in float16)."""
        tensors = storage.to_half(self.state_dict()) if half else self.state_dict()
        config = {"_class_name": "AutoencoderKL", "_log_sigma": float(self.log_sigma), **self.config}
        storage.write(Path(folder) / WEIGHTS, tensors, record or {})
        storage.replace_file(Path(folder) / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder):
        """The model in a folder written by `save_pretrained`, ours or diffusers'; float32, CPU, evaluation mode."""
        path = Path(folder) / CONFIG
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            config = {name: value for name, value in stored.items() if not name.startswith("_")}
            unknown = config.keys() - inspect.signature(cls).parameters.keys()
        except (OSError, ValueError, AttributeError) as error:
            raise storage.StorageError(
                f"{folder} holds no VAE in diffusers' format ({CONFIG}: {error}); give the folder with {CONFIG} and {WEIGHTS}."
            ) from error
        if unknown:
            raise ValueError(f"{path} has fields that AutoencoderKL does not know: {', '.join(sorted(unknown))}.")
        vae = cls(**config).filled(storage.tensors(Path(folder) / WEIGHTS), folder)
        vae.log_sigma.fill_(stored.get("_log_sigma", vae.log_sigma))
        return vae

    def filled(self, tensors, source="these weights"):
        """This model with the given weights, all of them and no others; in evaluation mode."""
        tensors = {re.sub(r"\b(query|key|value|proj_attn)\b", lambda m: LEGACY[m[1]], n): t for n, t in tensors.items()}
        own = self.state_dict()
        wrong = sorted(own.keys() ^ tensors.keys())
        wrong += [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
        if wrong:
            raise ValueError(f"{source} does not fit its config: {len(wrong)} weights differ, such as {wrong[0]}.")
        self.load_state_dict(tensors)
        return self.eval()


def finite(values, where):
    """`values`, if all are numbers."""
    if values.requires_grad or bool(values.isfinite().all()):
        return values
    cure = "run it in float32 or bfloat16 (`vae.float()`)" if values.dtype == torch.float16 else "check the weights"
    raise NotFinite(f"The {where} gave values that are no numbers, in {values.dtype}: the picture would be black; {cure}.")


def tiled(function, x, scale, tile, overlap):
    """`function` on overlapping pieces of `x` `(N, C, H, W)`, cross-faded into one result.

    Args:
        function: `(N, C, h, w)` -> `(N, D, scale·h, scale·w)`, such as `vae.code` (scale 1/f) or `vae.paint` (f).
        tile, overlap: in places of `x`, multiples of f where it shrinks. A quarter of the overlap, at each inner border, is thrown away; if what the
            function sees around a place is smaller than that, tiled and whole agree exactly.
    """
    whole = all(float(n * scale).is_integer() for n in (tile, overlap, *x.shape[-2:]))
    if not 0 <= overlap < tile or not whole:
        step = max(1, round(1 / scale))
        raise ValueError(f"tile={tile}, overlap={overlap} make no tiles; give multiples of {step}, overlap in [0, tile).")
    rows, columns = (starts(length, tile, overlap) for length in x.shape[-2:])
    total, weights = 0.0, 0.0
    for top in rows:
        for left in columns:
            part = function(x[..., top : top + tile, left : left + tile])
            down = window(top, tile, overlap, x.shape[-2], scale, part)
            across = window(left, tile, overlap, x.shape[-1], scale, part)
            weight = down[:, None] * across
            if not torch.is_tensor(total):
                total = part.new_zeros(*part.shape[:2], *(round(n * scale) for n in x.shape[-2:]))
                weights = torch.zeros_like(total[0, 0])
            at = [slice(round(start * scale), round(start * scale) + n) for start, n in ((top, len(down)), (left, len(across)))]
            total[..., at[0], at[1]] += part * weight
            weights[at[0], at[1]] += weight
    return total / weights


def starts(length, tile, overlap):
    """Where the tiles of one axis begin: evenly, the last one flush with the end."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def window(start, tile, overlap, length, scale, like):
    """The weights of one tile along one axis: 0 near inner borders, rising over half the overlap, 1 inside."""
    n = round(min(tile, length) * scale)
    place = torch.arange(n, device=like.device) + 0.5
    margin, rise = overlap * scale / 4, max(overlap * scale / 2, 1e-6)
    weight = torch.ones_like(place) if start == 0 else ((place - margin) / rise).clamp(0, 1)
    if start + tile < length:
        weight = weight * ((n - place - margin) / rise).clamp(0, 1)
    return weight.to(like.dtype)
