"""VAEs by name: those that ship with vaelab, and the published families, from a folder, a file or the hub.

    load()                          the course's own, kl-f4-c4
    load("my-vae/vae")              a folder in diffusers' format
    load("vae.safetensors")         one file, with LDM's names or diffusers'
    load("sdxl")                    a name of CARDS, through huggingface_hub and its local cache

All of them take and give pictures in [0, 1]. `CARDS` says what each family works in by itself.
"""

import difflib
import hashlib
import re
import socket
from collections import namedtuple
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from vaelab import storage
from vaelab.autoencoder_kl import CONFIG, WEIGHTS, AutoencoderKL, finite
from vaelab.storage import CHECKPOINTS

DEFAULT = "kl-f4-c4"
HUB, SD15 = "https://huggingface.co", "stable-diffusion-v1-5"
KL, TINY = "AutoencoderKL", "AutoencoderTiny"

PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
# LDM's names (CompVis/latent-diffusion, ldm/modules/diffusionmodules/model.py) -> diffusers'. The decoder's levels
# are counted the other way round besides: see `renamed`.
NAMES = [
    (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
    (r"\.(down|up)\.(\d+)\.(down|up)sample\.", r".\1_blocks.\2.\3samplers.0."),
    (r"\.mid\.block_(\d)\.", lambda match: f".mid_block.resnets.{int(match[1]) - 1}."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"coder\.norm_out\.", "coder.conv_norm_out."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
]


FIELDS = "repository folder kind channels scaling_factor shift_factor half used_by licence factor"


class Card(namedtuple("Card", FIELDS, defaults=[8])):
    """The conventions of one published VAE: where it is, and how its numbers are meant.

    Attributes:
        repository, folder: on huggingface.co.
        kind: diffusers' class.
        channels: of the latent; its height and width are the picture's divided by `factor`.
        scaling_factor, shift_factor: a diffusion model sees (z − shift) · scale.
        half: whether it may run in float16.
        used_by, licence: of the weights.
    """


# float16: the cards of sdxl-vae-fp16-fix and of the tiny ones show it, and users run sd-ft-mse and sd3 so; FLUX.1 turns
# black (github.com/invoke-ai/InvokeAI/issues/7208). FLUX.2 normalises by a batch norm over 2×2 places, not by a scale.
# fmt: off
CARDS = {
    "sd15": Card(f"{SD15}/{SD15}", "vae/", KL, 4, 0.18215, None, True, "Stable Diffusion 1.5", "CreativeML OpenRAIL-M"),
    "sd-ft-mse": Card("stabilityai/sd-vae-ft-mse", "", KL, 4, 0.18215, None, True, "Stable Diffusion 1 and 2", "MIT"),
    "sdxl": Card("stabilityai/sdxl-vae", "", KL, 4, 0.13025, None, False, "SDXL", "MIT"),
    "sdxl-fp16-fix": Card("madebyollin/sdxl-vae-fp16-fix", "", KL, 4, 0.13025, None, True, "SDXL in float16", "MIT"),
    "sd3": Card("stabilityai/stable-diffusion-3.5-medium", "vae/", KL, 16, 1.5305, 0.0609, True,
                "Stable Diffusion 3 and 3.5", "Stability AI Community"),
    "flux1": Card("black-forest-labs/FLUX.1-schnell", "vae/", KL, 16, 0.3611, 0.1159, False, "FLUX.1 schnell",
                  "Apache 2.0"),  # FLUX.1 dev has the same config and a non-commercial licence
    "flux2": Card("black-forest-labs/FLUX.2-klein-4B", "vae/", "AutoencoderKLFlux2", 32, None, None, False, "FLUX.2",
                  "Apache 2.0"),
    "taesd": Card("madebyollin/taesd", "", TINY, 4, 1.0, None, True, "previews of Stable Diffusion 1 and 2", "MIT"),
    "taesdxl": Card("madebyollin/taesdxl", "", TINY, 4, 1.0, None, True, "previews of SDXL", "MIT"),
    "taesd3": Card("madebyollin/taesd3", "", TINY, 16, 1.0, None, True, "previews of Stable Diffusion 3", "MIT"),
    "taef1": Card("madebyollin/taef1", "", TINY, 16, 1.0, None, True, "previews of FLUX.1", "MIT"),
}
# fmt: on


def table():
    """`CARDS` as a list of dicts, one a VAE; with its `name`, the `range` of its pictures, and the `source`."""
    rows = [{"name": name, **card._asdict()} for name, card in CARDS.items()]
    for row in rows:
        row["range"] = "[0, 1]" if row["kind"] == TINY else "[-1, 1]"
        row["source"] = f"{HUB}/{row['repository']}/blob/main/{row['folder']}{CONFIG}"
    return rows


class Source(NamedTuple):
    """What a model was loaded from: `vae.source`, for reports.

    Attributes:
        name: as it was given to `load`.
        sha256: of the file with the weights.
    """

    name: str
    sha256: str


def load(source=DEFAULT, *, half=False):
    """A VAE on the CPU, in evaluation mode, with its `source`; float32, or (`half`) float16.

    Args:
        source: the name of a shipped checkpoint, a folder in diffusers' format, a .safetensors file (see
            `from_ldm` for what a file cannot say), or a name of `CARDS`; in this order.
    """
    name = str(source)
    path = CHECKPOINTS / name if name in shipped() else Path(source)
    if not path.exists():
        path = fetch(name, half)
    vae = from_folder(path) if path.is_dir() else from_file(path)
    with open(path / WEIGHTS if path.is_dir() else path, "rb") as file:
        vae.source = Source(name, hashlib.file_digest(file, "sha256").hexdigest())
    return vae.half() if half else vae


def shipped():
    """Names of the checkpoints that come with vaelab."""
    return sorted(path.parent.name for path in CHECKPOINTS.glob(f"*/{CONFIG}"))


def fetch(name, half=False):
    """The folder of a published VAE in the hub's local cache, downloaded if it is not there."""
    if name not in CARDS:
        raise ValueError(unknown(name))
    card = CARDS[name]
    if card.kind not in (KL, TINY):
        raise ValueError(f"{name} is an {card.kind}, which vaelab does not read; use diffusers for it.")
    if half and not card.half:
        raise ValueError(f"{name} paints black pictures in float16; load it without half (`.bfloat16()` is safe).")
    files = [card.folder + CONFIG, card.folder + WEIGHTS]
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()  # without a network it would tell of every try; one sentence will do
        offline = not resolves(constants.ENDPOINT)  # or the hub's own retries would take half a minute
        return [Path(hf_hub_download(card.repository, f, local_files_only=offline)).parent for f in files][-1]
    except ImportError as error:
        raise storage.StorageError("Published VAEs need diffusers: pip install 'vaelab[diffusion]'.") from error
    except Exception as error:  # no network, no such file, no permission: the hub has an error for each
        kind = type(error).__name__
        gate = f"accept the licence at {HUB}/{card.repository}; " if "Gated" in kind else ""
        raise storage.StorageError(
            f"{name} could not be fetched ({kind}); {gate}where there is a network, run `hf download "
            f"{card.repository} {' '.join(files)} --local-dir {name}`, and load the folder '{name}/{card.folder}'."
        ) from error


def resolves(address):
    """Whether the host of an address has a known name from here; behind a proxy, which looks it up itself, True."""
    try:
        return bool(getproxies() or socket.getaddrinfo(urlsplit(address).hostname, None))
    except OSError:
        return False


def unknown(name):
    near = difflib.get_close_matches(name, [*shipped(), *CARDS], 1, 0)[0]
    return (
        f"There is no VAE {name!r}, and no folder or file of that name; the nearest name is {near!r}. "
        f"Shipped: {', '.join(shipped()) or 'none'}; published: {', '.join(CARDS)}."
    )


def from_folder(folder):
    """The VAE in a folder in diffusers' format."""
    config = Path(folder) / CONFIG
    tiny = config.is_file() and f'"{TINY}"' in config.read_text(encoding="utf-8", errors="replace")
    return (TinyAutoencoder if tiny else AutoencoderKL).from_pretrained(folder)


def from_file(path):
    """The `AutoencoderKL` in one .safetensors file, alone or within a whole model."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is no .safetensors file, and no other kind is opened; take that version of it.")
    return from_ldm(storage.tensors(path), source=path)


def from_ldm(tensors, norm_num_groups=32, scaling_factor=1.0, shift_factor=None, source="the dict"):
    """An `AutoencoderKL` with the weights of one file, whose config is read off their shapes.

    Args:
        tensors: `{name: tensor}` with LDM's or diffusers' names, bare or after `first_stage_model.` or `vae.`;
            what does not belong to the VAE is left aside.
        norm_num_groups, scaling_factor, shift_factor: what no shape says. The default, scale 1, makes `normalise`
            leave latents raw: take the family's numbers from `CARDS`.
        source: how errors call the weights.
    """
    tensors = renamed(tensors)
    blocks = re.findall(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight", " ".join(tensors))
    ends = [f"{name}.weight" for name in ("encoder.conv_in", "decoder.conv_in", "decoder.conv_out")]
    levels = range(1 + max((int(level) for level, _ in blocks), default=0))
    first = [f"encoder.down_blocks.{level}.resnets.0.conv1.weight" for level in levels]
    missing = [name for name in ends + first if name not in tensors]
    if missing:
        raise ValueError(f"{source} holds no whole VAE: there is no {missing[0]}; give its encoder and its decoder.")
    return AutoencoderKL(
        in_channels=tensors[ends[0]].shape[1],
        out_channels=tensors[ends[2]].shape[0],
        latent_channels=tensors[ends[1]].shape[1],
        block_out_channels=[tensors[name].shape[0] for name in first],
        layers_per_block=sum(level == "0" for level, _ in blocks),
        norm_num_groups=norm_num_groups,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv="quant_conv.weight" in tensors,
        use_post_quant_conv="post_quant_conv.weight" in tensors,
        mid_block_add_attention=any(".attentions." in name for name in tensors),
    ).filled(tensors, source)


def renamed(tensors):
    """The VAE's weights out of `tensors`, under diffusers' names; attention's 1×1 convolutions as matrices."""
    prefix = next((p for p in ("first_stage_model.", "vae.", "") if f"{p}encoder.conv_in.weight" in tensors), "")
    last = max(map(int, re.findall(r"decoder\.up\.(\d+)\.", " ".join(tensors))), default=0)
    own = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        if name.startswith(prefix) and bare.startswith(PARTS):
            bare = re.sub(r"(decoder\.up\.)(\d+)", lambda m: m[1] + str(last - int(m[2])), bare)
            for old, new in NAMES:
                bare = re.sub(old, new, bare)
            own[bare] = tensor.flatten(1) if ".attentions." in bare and tensor.ndim > 2 else tensor
    return own


class TinyAutoencoder(AutoencoderKL):
    """diffusers' `AutoencoderTiny` (TAESD, github.com/madebyollin/taesd) behind the contract of `AutoencoderKL`.

    Its latents are those that a diffusion model sees, already normalised, and they are points: the posterior's
    standard deviation is 3e-7, so that its KL says nothing.
    """

    def __init__(self, network):
        torch.nn.Module.__init__(self)
        self.network, self.config = network, {**network.config, "latents_mean": None, "latents_std": None}
        self.factor = 2 ** (len(network.config.num_encoder_blocks) - 1)
        self.register_buffer("log_sigma", torch.tensor(0.1).log(), persistent=False)

    def moments(self, x):
        # TAESD's weights take [0, 1]; diffusers' class wraps them for [−1, 1].
        z = self.network.encode(2 * x.to(self.network.dtype) - 1).latents
        return torch.cat([z, torch.full_like(z, -30)], 1)

    def paint(self, z):
        return finite(self.network.decode(z.to(self.network.dtype)).sample / 2 + 0.5, "decoder")

    def save_pretrained(self, folder, **_):
        return self.network.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder):
        from diffusers import AutoencoderTiny

        tensors = storage.tensors(Path(folder) / WEIGHTS)
        network = AutoencoderTiny.from_config(AutoencoderTiny.load_config(str(folder), local_files_only=True))
        return cls(network).filled({f"network.{name}": tensor for name, tensor in tensors.items()}, folder)
