"""The two models of the course: `Autoencoder` (a picture -> a point) and `VAE` (a picture -> a distribution)."""

import torch
from torch import nn

from vaelab import networks, storage
from vaelab.distributions import (
    BernoulliLikelihood,
    DiagonalGaussian,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
    StandardNormal,
)
from vaelab.objectives import Elbo

LIKELIHOODS = {
    "gaussian": GaussianLikelihood,
    "bernoulli": BernoulliLikelihood,
    "logistic": DiscretizedLogisticLikelihood,
}
KINDS = {
    "conv": (networks.ConvEncoder, networks.ConvDecoder),
    "mlp": (networks.MLPEncoder, networks.MLPDecoder),
}


class LatentModel(nn.Module):
    """What both models share: decoding and the picture likelihood.

    Args:
        encoder: pictures `(N, C, H, W)` -> numbers.
        decoder: latents `(N, *latent)` -> the likelihood's parameters, picture-shaped.
        latent: the latent's shape, or the number of its dimensions.
        likelihood: module from decoder output to a distribution; default `GaussianLikelihood()`.
    """

    def __init__(self, encoder, decoder, latent, likelihood=None):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = GaussianLikelihood() if likelihood is None else likelihood
        self.latent_shape = (latent,) if isinstance(latent, int) else tuple(latent)

    def decode(self, z):
        """Latents `(…, *latent)` -> the distribution of the picture; its `.mean` is `(…, C, H, W)`."""
        leading = z.shape[: z.ndim - len(self.latent_shape)]
        output = self.decoder(z.reshape(-1, *self.latent_shape))
        return self.likelihood(output.reshape(*leading, *output.shape[1:]))

    def reconstruct(self, x):
        """The round trip without noise: encode, take the mean, decode; `(N, C, H, W)`. Deterministic."""
        return self.decode(self.code(x)).mean


class Autoencoder(LatentModel):
    """A plain autoencoder: a VAE without the noise and without the KL, and so without a prior.

    It is scored by the same likelihood as the VAE, so that their reconstruction terms compare.
    """

    def encode(self, x):
        """Codes `(N, *latent)`."""
        return self.encoder(x).reshape(len(x), *self.latent_shape)

    code = encode

    def forward(self, x, generator=None):
        """`Elbo` with a KL of 0 (`generator` is taken and not used: there is no noise)."""
        reconstruction = self.decode(self.encode(x)).log_prob(x)
        return Elbo(reconstruction, torch.zeros_like(reconstruction))


class VAE(LatentModel):
    """A variational autoencoder (Kingma & Welling 2014) with everything injected.

    Args:
        prior: anything with `sample(n, generator, device)` and `log_prob(z)`; default N(0, I), for which the KL
            is taken in closed form (for any other prior from one sample).
    """

    def __init__(self, encoder, decoder, latent, likelihood=None, prior=None):
        super().__init__(encoder, decoder, latent, likelihood)
        self.prior = StandardNormal(self.latent_shape) if prior is None else prior

    def encode(self, x):
        """The posterior q(z | x), a `DiagonalGaussian` of batch `(N,)`."""
        first, *rest = self.latent_shape
        return DiagonalGaussian.from_parameters(self.encoder(x).reshape(len(x), 2 * first, *rest))

    def code(self, x):
        """The posterior mean `(N, *latent)`: the picture's address."""
        return self.encode(x).mean

    def forward(self, x, generator=None):
        """One-sample estimate of the ELBO of the pictures `x` `(N, C, H, W)`: an `Elbo`, nats per picture."""
        posterior = self.encode(x)
        z = posterior.sample(generator)
        reconstruction = self.decode(z).log_prob(x)
        if isinstance(self.prior, StandardNormal):
            kl = posterior.kl_per_dimension().flatten(1)
            return Elbo(reconstruction, kl.sum(1), kl)
        return Elbo(reconstruction, posterior.log_prob(z) - self.prior.log_prob(z))

    def sample(self, n, generator=None):
        """`n` new pictures: draws from the prior, decoded; `(n, C, H, W)`."""
        device = next(self.parameters()).device
        return self.decode(self.prior.sample(n, generator, device)).mean


def build(model, shape, latent, kind="conv", channels=(16, 32, 64, 64), likelihood="gaussian", **options):
    """The models of the course by name; the answer remembers its `config`, so `save` and `load` can rebuild it.

    Args:
        model: "vae" or "autoencoder".
        shape: of a picture, `(C, H, W)`.
        latent: number of latent dimensions.
        kind: "conv" or "mlp".
        channels: encoder widths (the decoder's are the reverse): channels of a conv network, or layer sizes.
        likelihood: "gaussian", "bernoulli" or "logistic".
        options: for the likelihood, such as `sigma=0.05, learned=False`.
    """
    config = {"model": model, "shape": list(shape), "latent": latent, "kind": kind, "channels": list(channels)}
    config |= {"likelihood": likelihood, "options": options}
    encoder, decoder = choose("kind", kind, KINDS)
    model_class = choose("model", model, {"vae": VAE, "autoencoder": Autoencoder})
    outputs = 2 * latent if model == "vae" else latent
    built = model_class(
        encoder(tuple(shape), outputs, tuple(channels)),
        decoder(latent, tuple(shape), tuple(channels)[::-1]),
        latent,
        choose("likelihood", likelihood, LIKELIHOODS)(**options),
    )
    built.config = config
    return built


def vae(shape, latent, **settings):
    """A `VAE` for pictures of `shape` (C, H, W) with `latent` dimensions; settings as in `build`."""
    return build("vae", shape, latent, **settings)


def autoencoder(shape, latent, **settings):
    """An `Autoencoder` for pictures of `shape` (C, H, W) with `latent` dimensions; settings as in `build`."""
    return build("autoencoder", shape, latent, **settings)


def choose(what, name, known):
    if name not in known:
        raise ValueError(f"There is no {what} {name!r}; choose one of {', '.join(known)}.")
    return known[name]


def save(model, path, half=False):
    """Writes a model made by `vae` or `autoencoder` to a safetensors file (`half`: weights in float16)."""
    if not hasattr(model, "config"):
        raise ValueError(
            "Only models made by vaelab.models.vae or autoencoder can be saved: others have no config."
        )
    tensors = model.state_dict()
    return storage.write(path, storage.to_half(tensors) if half else tensors, {"config": model.config})


def load(path):
    """The model saved at `path`, in float32, on the CPU, in evaluation mode."""
    tensors, record = storage.read(path)
    if "config" not in record:
        raise storage.StorageError(
            f"{path} holds no model (a training state, perhaps); give a file made by save."
        )
    config = dict(record["config"])
    model = build(**config.pop("options"), **config)
    model.load_state_dict(tensors)  # copies into float32, also from float16
    return model.eval()
