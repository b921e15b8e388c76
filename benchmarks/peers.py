"""What the benchmarks compare with: the loop one would write oneself, published networks, other libraries."""

import time

import torch
from torch import nn
from torch.nn import functional as F

from vaelab.distributions import BernoulliLikelihood
from vaelab.models import VAE
from vaelab.objectives import Elbo

SHAPE, PIXELS = (1, 28, 28), 784


class PlainVAE(VAE):
    """A `VAE` whose training loss is written out as in most scripts, with none of this library's checks."""

    def forward(self, x, generator=None):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator)
        logits = self.decoder(mean + torch.exp(0.5 * log_variance) * noise)
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1)
        return Elbo(-error, kl)


def mlp(latent=20, hidden=(400,)):
    """pytorch/examples `vae/main.py` for the defaults: 784-400-20-400-784, ReLU (its two heads in one layer)."""
    up, down = nn.Sequential(nn.Flatten()), nn.Sequential()
    for a, b in zip((PIXELS, *hidden), hidden, strict=False):
        up.extend([nn.Linear(a, b), nn.ReLU()])
    for a, b in zip((latent, *hidden[::-1]), hidden[::-1], strict=False):
        down.extend([nn.Linear(a, b), nn.ReLU()])
    up.append(nn.Linear(hidden[-1], 2 * latent))
    down.extend([nn.Linear(hidden[0], PIXELS), nn.Unflatten(1, SHAPE)])
    return up, down


def conv(latent=32):
    """A plain convolutional pair: 28 -> 14 -> 7 pixels and back, 32 and 64 channels, ReLU."""
    up = nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 49, 2 * latent),
    )
    down = nn.Sequential(
        nn.Linear(latent, 64 * 49),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
    )
    return up, down


def plain(networks, latent, model=PlainVAE):
    return model(*networks, latent, BernoulliLikelihood())


def plain_loop(model, pictures, *, steps=None, seconds=None, batch_size=128, transform=None, seed=0):
    """The loop of pytorch/examples (Adam, 1e-3), on pictures that lie in memory: so many `steps` or `seconds`.

    Returns:
        how many steps it took.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    noise, start, done = torch.Generator().manual_seed(seed), time.perf_counter(), 0
    while True:
        for batch in torch.randperm(len(pictures), generator=noise).split(batch_size):
            if done == steps or (seconds and time.perf_counter() - start > seconds):
                return done
            x = pictures[batch]
            x = transform(x, noise) if transform else x
            optimizer.zero_grad()
            loss = -model(x, generator=noise).value.mean()
            loss.backward()
            optimizer.step()
            done += 1


def pythae_trainer(networks, latent, pictures, epochs, batch_size, folder):
    """`pythae`'s own trainer over the same networks, loss, optimiser and batch size; a function that trains.

    Raises:
        ImportError: pythae is not installed.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = networks[0]

        def forward(self, x):
            mean, log_variance = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = networks[1]

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))

    config = VAEConfig(input_dim=SHAPE, latent_dim=latent, reconstruction_loss="bce")
    settings = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=epochs,
        per_device_train_batch_size=batch_size,
        optimizer_cls="Adam",
        learning_rate=1e-3,
        no_cuda=True,
    )
    data = BaseDataset(pictures, torch.zeros(len(pictures)))
    return BaseTrainer(PythaeVAE(config, Encoder(), Decoder()), data, training_config=settings).train
