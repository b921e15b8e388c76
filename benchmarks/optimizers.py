"""How far a network gets in as many steps by AdamW and by Muon: `python -m benchmarks.optimizers`.

The same untrained network, the same pictures in the same order, each at three learning rates. Of a VAE stage the
figure is the mean PSNR in dB on held-out ads of 128 px; of the diffusion (`--stage diffusion`) it is the mean squared
error of v on held-out latents, the lower the better. About fifteen minutes on one core; nothing is stored.
"""

import argparse
import time
from dataclasses import replace

import torch

from vaelab import pretrained, recipes_kl
from vaelab.data import ads
from vaelab.muon import Muon
from vaelab.training import adamw, evaluate, fit

RATES = {adamw: (1e-3, 3e-3, 1e-2), Muon: (0.01, 0.02, 0.05)}


def stages(name, steps):
    """Trains the stage `name`: for each optimizer and learning rate the held-out PSNR."""
    pictures, held_out = recipes_kl.cut_outs(0.1), recipes_kl.held_out_ads(30)

    def result(optimizer, rate):
        recipe = replace(recipes_kl.STAGES[name], optimizer=optimizer, learning_rate=rate)
        return recipes_kl.held_out_scores(recipes_kl.train(recipe, pictures, steps), held_out)["psnr"]

    return result, "dB"


def denoisers(steps, ads_seen=2000, held_out=300):
    """Trains the diffusion of chapter 7: for each optimizer and learning rate the held-out error of v."""
    vae = pretrained.load("kl-f4-c4-64px")
    with torch.no_grad():
        latents, others = (recipes_kl.diffusion_rows(vae, ads.sample_factors(n, seed))
                           for n, seed in ((ads_seen, 100), (held_out, 200)))  # fmt: skip

    def result(optimizer, rate):
        model = recipes_kl.new_diffusion()
        fit(model, latents, steps=steps, batch_size=32, learning_rate=rate, ema=0.99, optimizer=optimizer)
        torch.manual_seed(1)
        return -float(evaluate(model, others).reconstruction)

    return result, "squared error of v"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stage", default="kl-f4-c16", choices=[*recipes_kl.STAGES, "diffusion"])
    asked = parser.parse_args()
    if asked.steps < 1:
        parser.error(f"--steps takes a number from 1, and {asked.steps} was given.")
    torch.set_num_threads(1)
    print(f"{asked.stage}, {asked.steps} steps")
    result, unit = denoisers(asked.steps) if asked.stage == "diffusion" else stages(asked.stage, asked.steps)
    for optimizer, rates in RATES.items():
        for rate in rates:
            start, value = time.process_time(), result(optimizer, rate)
            seconds = time.process_time() - start
            print(f"{optimizer.__name__:6} learning rate {rate:<6g} {value:6.3f} {unit} {seconds:6.0f} s", flush=True)


if __name__ == "__main__":
    main()
