"""Peak memory of `vaelab audit` on one large picture: `python -m benchmarks.audit_memory [--size 4096] [--vae sd-size]`.

The picture is a sheet of ads. "sd-size" is a VAE of random weights with the shape of Stable Diffusion's, whose memory is
the same as that of the real one. The limit that we hold ourselves to is 4 GiB; words are not read.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.data import ads

SIDE = 512  # pixels of one ad of the sheet
SD_SIZE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


def sheet(size):
    """A picture of `size` × `size` pixels made of ads."""
    columns = -(-size // SIDE)
    pictures = ads.render(ads.sample_factors(columns**2, seed=5), SIDE)
    rows = pictures.view(columns, columns, 3, SIDE, SIDE).permute(0, 3, 1, 4, 2).reshape(columns * SIDE, columns * SIDE, 3)
    return Image.fromarray((255 * rows[:size, :size]).round().byte().numpy())


def sd_size(folder, **changes):
    """Saves a VAE of random weights with the shape of Stable Diffusion's."""
    widths = SD_SIZE | changes
    count = len(widths["block_out_channels"])
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
    torch.manual_seed(0)
    AutoencoderKL(**widths, **blocks).save_pretrained(folder)


def measure(size, vae=None):
    """Peak memory in GiB, and wall and processor seconds, of the command on one picture."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "ads").mkdir()
        sheet(size).save(folder / "ads" / "sheet.png")
        if vae == "sd-size":
            sd_size(folder / "vae")
            vae = folder / "vae"
        command = [sys.executable, "-m", "vaelab.cli", "audit", folder / "ads", "--out", folder / "report", "--no-ocr"]
        start = time.monotonic()
        subprocess.run([*map(str, command), *(["--vae", str(vae)] if vae else [])], check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gib = used.ru_maxrss / 2 ** (20 if sys.platform != "darwin" else 30)
    return {"size": size, "gib": gib, "seconds": time.monotonic() - start, "processor_seconds": used.ru_utime}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_memory", description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--vae", help="a name, folder or file as for vaelab audit, or sd-size; default: the one that ships")
    asked = parser.parse_args()
    if asked.size < 32:
        parser.error("an audit needs pictures of 32 pixels a side or more.")
    try:
        print(json.dumps(measure(asked.size, asked.vae)))
    except subprocess.CalledProcessError as error:
        parser.error(error.stderr.decode().strip().splitlines()[-1])


if __name__ == "__main__":
    main()
