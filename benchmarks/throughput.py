"""Pictures a second of `fit`, beside a plain loop and beside pythae's trainer (`pip install pythae`, optional).

    python -m benchmarks.throughput --threads 2

The same networks, pictures, batch size, optimiser family and number of threads for all. The contestants take turns,
in another order every round; the table shows medians, and the median of the ratios within a round, which a
neighbour on the machine disturbs less. What is started once (imports, datasets) is not timed.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported: no bars between the lines of the table

import torch

from benchmarks import peers
from vaelab.training import fit

BATCH = 128
NETWORKS = {"MLP 784-400-20": (peers.mlp, 20), "conv 1-32-64, 32 latents": (peers.conv, 32)}


def vaelab_fit(networks, latent, pictures, folder, **settings):
    model = peers.plain(networks(), latent, peers.VAE)
    return lambda: fit(model, pictures, epochs=1, batch_size=BATCH, progress=False, **settings)


def vaelab_fit_bf16(*arguments):
    return vaelab_fit(*arguments, bf16=True)


def plain_loop(networks, latent, pictures, folder):
    model = peers.plain(networks(), latent)
    return lambda: peers.plain_loop(model, pictures, steps=len(pictures) // BATCH, batch_size=BATCH)


def pythae(networks, latent, pictures, folder):
    return peers.pythae_trainer(networks(), latent, pictures, 1, BATCH, folder)


CONTESTANTS = {
    "vaelab fit": vaelab_fit,
    "vaelab fit, bf16=True": vaelab_fit_bf16,
    "plain loop": plain_loop,
    "pythae trainer": pythae,
}


def line_up(networks, latent, pictures, folder):
    """The contestants that can be had here, each a function that trains one epoch."""
    found = {}
    for name, make in CONTESTANTS.items():
        try:
            found[name] = make(networks, latent, pictures, folder)
        except ImportError:
            found[name] = None
    return found


def duration(train):
    start = time.perf_counter()
    train()
    return time.perf_counter() - start


def take_turns(contestants, rounds):
    """Seconds of every contestant in every round, after one round that does not count."""
    present = [name for name, train in contestants.items() if train]
    seconds = {name: [] for name in present}
    for turn in range(rounds + 1):
        for name in present if turn % 2 else present[::-1]:
            seconds[name].append(duration(contestants[name]))
    return {name: took[1:] for name, took in seconds.items()}


def table(name, contestants, seconds, pictures):
    """Lines of one network: pictures a second, and how much faster `fit` is."""
    ours = seconds["vaelab fit"]
    for contestant in contestants:
        if contestant not in seconds:
            yield f"{contestant:<24}{name:<28}{'not installed':>22}"
            continue
        ratio = statistics.median(theirs / own for theirs, own in zip(seconds[contestant], ours, strict=True))
        speed = pictures / statistics.median(seconds[contestant])
        yield f"{contestant:<24}{name:<28}{speed:>12.0f}{ratio:>10.2f}"


def main(arguments=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--pictures", type=int, default=12_800, help="in the epoch that is timed")
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    logging.disable(logging.INFO)
    noise = torch.Generator().manual_seed(0)
    x = (torch.rand(chosen.pictures, *peers.SHAPE, generator=noise) < 0.2).float()
    print(f"{'':<24}{'network':<28}{'pictures/s':>12}{'fit is ×':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (networks, latent) in NETWORKS.items():
            contestants = line_up(networks, latent, x, folder)
            seconds = take_turns(contestants, chosen.rounds)
            print(*table(name, contestants, seconds, len(x)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
