"""The two models: what they promise, in numbers."""

import math

import pytest
import torch
from torch.testing import assert_close

from vaelab import models, networks, storage
from vaelab.distributions import Gaussian
from vaelab.models import VAE, Autoencoder

SHAPE = (3, 8, 8)
BUILDERS = {
    "vae conv": lambda **o: models.vae(SHAPE, 4, channels=(8, 8), **o),
    "vae mlp": lambda **o: models.vae(SHAPE, 4, kind="mlp", channels=(16,), **o),
    "autoencoder conv": lambda **o: models.autoencoder(SHAPE, 4, channels=(8, 8), **o),
    "autoencoder mlp": lambda **o: models.autoencoder(SHAPE, 4, kind="mlp", channels=(16,), **o),
}


def built(name="vae mlp", **options):
    torch.manual_seed(0)
    return BUILDERS[name](**options)


def pictures(n=6):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", BUILDERS)
def test_reconstruct_is_the_decoded_code_and_never_changes(name):
    model, x = built(name).train(), pictures()
    first = model.reconstruct(x)
    torch.manual_seed(99)
    assert torch.equal(first, model.reconstruct(x))
    assert_close(first, model.decode(model.code(x)).mean)
    assert first.shape == x.shape and model.code(x).shape == (6, 4)
    assert (first[0] - first[1]).abs().max() > 1e-6  # of this picture, not of any


def test_the_code_of_a_vae_is_its_posterior_mean():
    model, x = built(), pictures()
    assert torch.equal(model.code(x), model.encode(x).mean)
    raw = model.encoder(x)
    assert_close(model.encode(x).mean, raw[:, :4])
    assert_close(model.encode(x).log_variance, 14 * torch.tanh(raw[:, 4:] / 14))


def test_the_terms_of_the_elbo():
    model, x = built(sigma=0.3), pictures()
    terms = model(x, generator=noise(3))
    q = model.encode(x)
    z = q.mean + q.std * torch.randn(6, 4, generator=noise(3))
    seen = torch.distributions.Normal(model.decoder(z), 0.3).log_prob(x).sum((1, 2, 3))
    assert_close(terms.reconstruction, seen, rtol=1e-5, atol=1e-4)
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(q.mean, q.std), prior)
    assert_close(terms.kl, kl.sum(1), rtol=1e-5, atol=1e-5)
    assert_close(terms.kl_per_dimension, kl, rtol=1e-5, atol=1e-5)
    assert_close(terms.value, terms.reconstruction - terms.kl)


def test_an_autoencoder_has_the_same_score_without_a_kl():
    model, x = built("autoencoder mlp", sigma=0.3), pictures()
    terms = model(x)
    seen = torch.distributions.Normal(model.reconstruct(x), 0.3).log_prob(x).sum((1, 2, 3))
    assert_close(terms.reconstruction, seen, rtol=1e-5, atol=1e-4)
    assert torch.equal(terms.kl, torch.zeros(6))


def test_a_larger_picture_weighs_more():
    x = pictures(2)
    doubled = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    sigma = torch.tensor(math.log(0.1))
    small, large = (Gaussian(torch.zeros_like(p), sigma).log_prob(p) for p in (x, doubled))
    assert_close(large, 4 * small)  # a sum over pixels: a mean would not move


def test_each_picture_is_scored_on_its_own():
    model, x = built("vae conv").double(), pictures().double()
    twice = torch.cat([x, x])
    z = model.encode(x).sample(noise())
    assert_close(model.decode(z).log_prob(x).repeat(2), model.decode(z.repeat(2, 1)).log_prob(twice))
    assert_close(model(twice, generator=noise()).kl, model(x, generator=noise()).kl.repeat(2))
    ae = built("autoencoder conv").double()
    assert_close(ae(twice).reconstruction, ae(x).reconstruction.repeat(2))


def test_copies_of_a_picture_get_noise_of_their_own():
    model = built(sigma=0.01)
    scores = model(pictures(1).repeat(50, 1, 1, 1), generator=noise()).reconstruction
    assert scores.std() > 0 and len(scores.unique()) == 50


@pytest.mark.parametrize("name", ["vae conv", "vae mlp"])
def test_same_seed_same_numbers(name):
    model, x = built(name), pictures()
    same = [model(x, generator=noise(5)).value for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], model(x, generator=noise(6)).value)
    assert torch.equal(model.sample(4, noise(1)), model.sample(4, noise(1)))
    assert not torch.equal(model.sample(4, noise(1)), model.sample(4, noise(2)))


def test_samples_are_decoded_prior_draws():
    model = built()
    z = torch.randn(7, 4, generator=noise(2))
    assert_close(model.sample(7, noise(2)), model.decode(z).mean)


def test_decode_takes_many_codes_a_picture():
    model = built("vae conv")
    z = torch.randn(5, 3, 4, generator=noise())
    assert_close(model.decode(z).mean[2], model.decode(z[2]).mean, atol=1e-5, rtol=1e-5)


class Wide:
    """The prior N(m, s²) in every coordinate."""

    mean, std = 0.5, 2.0

    def sample(self, n, generator=None, device=None):
        return self.mean + self.std * torch.randn((n, 4), generator=generator, device=device)

    def log_prob(self, z):
        return torch.distributions.Normal(self.mean, self.std).log_prob(z).sum(-1)


def test_a_prior_of_ones_own_is_priced_from_samples():
    torch.manual_seed(0)
    model = VAE(networks.MLPEncoder(SHAPE, 8, (16,)), networks.MLPDecoder(4, SHAPE, (16,)), 4, prior=Wide())
    x = pictures(1)
    with torch.no_grad():
        q = model.encode(x)
        draws = model(x.repeat(4_000, 1, 1, 1), generator=noise()).kl
        assert model(x).kl_per_dimension is None
    wide = torch.distributions.Normal(Wide.mean, Wide.std)
    exact = float(torch.distributions.kl_divergence(torch.distributions.Normal(q.mean, q.std), wide).sum())
    assert abs(float(draws.mean()) - exact) < 3 * float(draws.std()) / math.sqrt(4_000)
    assert_close(model.sample(5, noise()), model.decode(Wide().sample(5, noise())).mean)


def test_a_latent_may_be_a_small_picture():
    torch.manual_seed(0)
    decoder = torch.nn.Sequential(torch.nn.Flatten(), networks.MLPDecoder(8, SHAPE, (16,)))
    for outputs, kind in ((16, VAE), (8, Autoencoder)):
        model = kind(networks.MLPEncoder(SHAPE, outputs, (16,)), decoder, (2, 2, 2))
        assert model.code(pictures()).shape == (6, 2, 2, 2)
        terms = model(pictures())
        assert terms.kl.shape == (6,)
        if kind is VAE:
            assert terms.kl_per_dimension.shape == (6, 8)
            assert_close(terms.kl_per_dimension.sum(1), terms.kl)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("half", [False, True])
def test_save_and_load(tmp_path, name, half):
    model, x = built(name, sigma=0.07), pictures()
    models.save(model, tmp_path / "model.safetensors", half=half)
    back = models.load(tmp_path / "model.safetensors")
    assert type(back) is type(model) and not back.training and back.config == model.config
    tolerance = 2e-2 if half else 0
    assert_close(back.reconstruct(x), model.reconstruct(x), atol=tolerance, rtol=0)
    assert back.likelihood.sigma == pytest.approx(0.07, rel=2e-3 if half else 1e-6)
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    stored = storage.read(tmp_path / "model.safetensors")[0]
    assert {t.dtype for t in stored.values()} == {torch.float16 if half else torch.float32}
    if half:
        assert not torch.equal(back.reconstruct(x), model.reconstruct(x))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "logistic"])
def test_save_and_load_keep_the_likelihood(tmp_path, likelihood):
    options = {"gaussian": {"sigma": 0.2, "learned": False}, "bernoulli": {"allow_grey": True}, "logistic": {"scale": 0.1}}
    model = built(likelihood=likelihood, **options[likelihood])
    models.save(model, tmp_path / "m")
    back = models.load(tmp_path / "m")
    x = (pictures() * 255).round() / 255
    assert_close(back(x, generator=noise()).value, model(x, generator=noise()).value)


def test_what_models_refuse(tmp_path):
    with pytest.raises(ValueError, match="There is no kind 'cnn'; choose one of conv, mlp"):
        models.vae(SHAPE, 2, kind="cnn")
    with pytest.raises(ValueError, match="There is no likelihood 'mse'; choose one of gaussian, bernoulli, logistic"):
        models.vae(SHAPE, 2, channels=(8,), likelihood="mse")
    own = VAE(networks.MLPEncoder(SHAPE, 4), networks.MLPDecoder(2, SHAPE), 2)
    with pytest.raises(ValueError, match="others have no config"):
        models.save(own, tmp_path / "own")
    other = storage.write(tmp_path / "other", {"a": torch.zeros(1)}, {"step": 1})
    with pytest.raises(storage.StorageError, match=f"{other} holds no model"):
        models.load(other)
