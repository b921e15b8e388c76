"""How far a VAE stage gets in as many steps by AdamW and by Muon: `python -m benchmarks.optimizers`.

The same untrained stage, the same pictures in the same order, each at the best of three learning rates; the figure is
the mean PSNR in dB on held-out ads of 128 px. About fifteen minutes on one core; nothing is stored.
"""

import argparse
import time
from dataclasses import replace

import torch

from vaelab import recipes_kl
from vaelab.muon import Muon
from vaelab.training import adamw

RATES = {adamw: (1e-3, 3e-3, 1e-2), Muon: (0.01, 0.02, 0.05)}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stage", default="kl-f4-c16", choices=list(recipes_kl.STAGES))
    asked = parser.parse_args()
    if asked.steps < 1:
        parser.error(f"--steps takes a number from 1, and {asked.steps} was given.")
    torch.set_num_threads(1)
    pictures, held_out = recipes_kl.cut_outs(0.1), recipes_kl.held_out_ads(30)
    print(f"{asked.stage}, {asked.steps} steps")
    for optimizer, rates in RATES.items():
        for rate in rates:
            recipe = replace(recipes_kl.STAGES[asked.stage], optimizer=optimizer, learning_rate=rate)
            start = time.process_time()
            vae = recipes_kl.train(recipe, pictures, asked.steps)
            seconds, psnr = time.process_time() - start, recipes_kl.held_out_scores(vae, held_out)["psnr"]
            print(f"{optimizer.__name__:6} learning rate {rate:<6g} {psnr:5.2f} dB {seconds:6.0f} s", flush=True)


if __name__ == "__main__":
    main()
