"""Diffusion against closed forms (Gaussian data, mixtures) and against diffusers' own loops."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from vaelab import diffusion, storage, training
from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.data import ads, prompts
from vaelab.diffusion import Diffusion, bound, rows, sample

MEAN = torch.tensor([0.3, -0.2])
COVARIANCE = torch.tensor([[1.0, 0.5], [0.5, 0.8]])
WAYS = ["epsilon", "v", "flow"]
SAMPLERS = [(way, name) for way in WAYS for name in diffusion.SAMPLERS[way]]
SMALL = {"shape": (4, 8, 8), "widths": (8, 16)}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


class ExactGaussian(nn.Module):
    """E[prediction | x_t] for data N(MEAN, COVARIANCE): the best denoiser that there can be, and nothing to learn."""

    def __init__(self, prediction):
        super().__init__()
        self.owner = [Diffusion((2, 1, 1), prediction=prediction, network=nn.Identity())]
        self.unused = nn.Parameter(torch.zeros(()))

    def denoised(self, x, alpha, sigma):
        """E[clean | x_t], `(N, 2)`: x_t = α·x + σ·ε is jointly Gaussian with x."""
        spread, axes = torch.linalg.eigh(COVARIANCE)
        alpha, sigma = alpha[:, None], sigma[:, None]
        return MEAN + ((x - alpha * MEAN) @ axes * alpha * spread / (alpha**2 * spread + sigma**2)) @ axes.T

    def forward(self, x_t, t, label):
        alpha, sigma = (value.flatten() for value in self.owner[0].schedule(t))
        x = x_t.flatten(1)
        clean = self.denoised(x, alpha, sigma)
        noise = (x - alpha[:, None] * clean) / sigma[:, None]
        output = {"epsilon": noise, "v": alpha[:, None] * noise - sigma[:, None] * clean, "flow": noise - clean}
        return output[self.owner[0].prediction].view_as(x_t) + 0 * self.unused


class ExactMixture(ExactGaussian):
    """The same for two Gaussians at ±CENTRE of standard deviation 0.3, equally likely."""

    CENTRE = torch.tensor([0.9, 0.4])

    def denoised(self, x, alpha, sigma):
        variance = (alpha**2 * 0.09 + sigma**2)[:, None]
        side = torch.tanh((alpha[:, None] * x @ self.CENTRE[:, None]) / variance)  # P(+) − P(−)
        centre = side * self.CENTRE
        return centre + alpha[:, None] * 0.09 / variance * (x - alpha[:, None] * centre)


def exact(prediction, network=ExactGaussian):
    return Diffusion((2, 1, 1), prediction=prediction, network=network(prediction))


def conditional(prediction="v"):
    """A small UNet that listens: its output layer and the words' vectors are no longer near zero."""
    torch.manual_seed(1)
    model = Diffusion(**SMALL, prediction=prediction, vocabulary=prompts.VOCABULARY).eval()
    with torch.no_grad():
        for table in model.words:
            table.weight[1:].normal_()
    return model


# The schedule, the target and the loss


@pytest.mark.parametrize("way", ["epsilon", "v"])
def test_the_noise_and_the_target_are_diffusers(way):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    model, x, noise = exact(way), torch.randn(5, 2, 1, 1, generator=draws()), torch.randn(5, 2, 1, 1, generator=draws(1))
    t = torch.tensor([0, 1, 400, 800, 999])
    alpha, sigma = model.schedule(t)
    assert torch.allclose(alpha * x + sigma * noise, scheduler.add_noise(x, noise, t), atol=1e-6)
    expected = noise if way == "epsilon" else scheduler.get_velocity(x, noise, t)
    assert torch.allclose(model.target(x, noise, t), expected, atol=1e-6)


def test_flow_is_diffusers_straight_way():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(1000)
    model, x, noise = exact("flow"), torch.randn(3, 2, 1, 1, generator=draws()), torch.randn(3, 2, 1, 1, generator=draws(1))
    t = scheduler.timesteps[[0, 500, 999]]
    alpha, sigma = model.schedule(t)
    assert torch.allclose(alpha * x + sigma * noise, scheduler.scale_noise(x, t, noise), atol=1e-6)
    assert torch.equal(model.target(x, noise, t), noise - x)


@pytest.mark.parametrize("way", WAYS)
def test_a_right_prediction_gives_the_clean_latents_back(way):
    model, x, noise = exact(way), torch.randn(4, 2, 1, 1, generator=draws()), torch.randn(4, 2, 1, 1, generator=draws(1))
    t = torch.tensor([1, 300, 600, 900])
    alpha, sigma = model.schedule(t)
    assert torch.allclose(model.clean(alpha * x + sigma * noise, model.target(x, noise, t), t), x, atol=1e-4)


def bayes_error(model):
    """The least mean squared error of a prediction, averaged over t: from the variance of x given x_t."""
    t = torch.arange(1000) + (0.5 if model.prediction == "flow" else 0)
    alpha, sigma = (value.flatten().double() for value in model.schedule(t))
    spread = torch.linalg.eigvalsh(COVARIANCE.double())[:, None]
    left = spread * sigma**2 / (alpha**2 * spread + sigma**2)  # Var(x | x_t) along each axis
    return float((left * {"epsilon": alpha**2 / sigma**2, "v": 1 / sigma**2, "flow": 1 / sigma**2}[model.prediction]).mean())


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_the_loss_reaches_the_bayes_error_and_stays_above_it(way):
    torch.manual_seed(7)  # another seed than the noise's, or data and noise would go together
    x, best = MultivariateNormal(MEAN, COVARIANCE).sample((40_000,)), exact(way)
    least = bayes_error(best)
    loss = -best(x, generator=draws()).reconstruction.mean()
    assert float(loss) == pytest.approx(least, rel=0.03)

    class Worse(ExactGaussian):
        def forward(self, x_t, t, label):
            return super().forward(x_t, t, label) + 0.3

    worse = -exact(way, Worse)(x, generator=draws()).reconstruction.mean()
    assert float(worse) == pytest.approx(least + 0.09, rel=0.03)


def test_every_timestep_has_its_turn():
    terms = exact("v")(torch.randn(2000, 2, generator=draws()), generator=draws())
    assert torch.equal(terms.time.sort().values, torch.arange(1000.0).repeat_interleave(2))
    assert torch.equal(terms.kl, torch.zeros(2000)) and terms.kl_per_dimension is None
    shuffled = exact("v")(torch.randn(2000, 2, generator=draws()), generator=draws(1))
    assert not torch.equal(terms.time, shuffled.time)


def test_words_are_left_out_one_by_one_and_all_together_only_in_training():
    model = Diffusion(**SMALL, vocabulary=prompts.VOCABULARY, drop=0.1)
    words = torch.ones(20_000, 4, dtype=torch.long)
    left = model.leave_out(words, draws())
    assert float((left == 0).float().mean()) == pytest.approx(1 - 0.9**2, abs=0.006)
    assert float((left == 0).all(1).float().mean()) == pytest.approx(0.1 + 0.9 * 0.1**4, abs=0.007)
    assert torch.equal(model.leave_out(words, draws()), left)
    model.drop = 0.5
    assert float((model.leave_out(words, draws()) == 0).float().mean()) == pytest.approx(0.75, abs=0.01)

    table = torch.cat([torch.randn(64, 256, generator=draws()), torch.ones(64, 4)], dim=1)
    seen = []
    model.predict = lambda x_t, t, words: seen.append(words) or x_t
    for mode in (True, False):
        model.train(mode)(table, generator=draws())
    assert (seen[0] == 0).any() and (seen[1] == 1).all()


def test_fit_trains_it_unchanged_and_resumes(tmp_path):
    factors = ads.sample_factors(32)
    pattern = torch.randn(4, 8, 8, generator=draws()) * torch.tensor([1.0, -1.0]).repeat(16).view(-1, 1, 1, 1)
    table = rows(pattern, prompts.words_of(factors))

    def fresh():
        torch.manual_seed(0)
        return Diffusion(**SMALL, vocabulary=prompts.VOCABULARY)

    settings = {"batch_size": 8, "record_every": 5, "ema": 0.9, "progress": False}
    model, path = fresh(), tmp_path / "state"
    history = training.fit(model, table, steps=40, learning_rate=1e-2, validation=table, **settings)
    assert history.column("loss")[-1] < 0.95 * history.column("loss")[0]
    assert history.last["loss"] == pytest.approx(-history.last["reconstruction"])
    assert model.words[0].weight[0].abs().sum() == 0 and model.words[0].weight[1:].abs().sum() > 0

    whole = training.fit(one := fresh(), table, steps=6, **settings)
    training.fit(fresh(), table, steps=6, **settings, checkpoint=path, checkpoint_every=3)
    assert storage.read(path)[1]["history"] == whole.records
    again = fresh()
    training.fit(again, table, steps=6, **settings, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))


# Sampling


@pytest.mark.parametrize(("way", "sampler"), [("v", "ddim"), ("flow", "euler"), ("epsilon", "ddim"), ("v", "dpm")])
@torch.no_grad()
def test_the_exact_denoiser_turns_noise_into_the_data(way, sampler):
    x = sample(exact(way), 20_000, steps=100, sampler=sampler, generator=draws()).flatten(1)
    assert torch.allclose(x.mean(0), MEAN, atol=0.03)
    assert torch.allclose(x.T.cov(), COVARIANCE, atol=0.03)


@pytest.mark.parametrize("way", ["v", "flow"])
def test_a_mixture_comes_back_as_two_heaps(way):
    x = sample(exact(way, ExactMixture), 10_000, steps=100, generator=draws()).flatten(1)
    centre = ExactMixture.CENTRE
    right = x @ centre > 0
    assert float(right.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.allclose(x[right].mean(0), centre, atol=0.03) and torch.allclose(x[~right].mean(0), -centre, atol=0.03)
    assert torch.allclose(x.T.cov(), 0.09 * torch.eye(2) + centre[:, None] * centre, atol=0.03)


def reference(model, name, steps, generator, x=None, skipped=0):
    """The loop of diffusers' own pipelines, written out, with the class that `name` stands for."""
    import diffusers

    x = torch.randn((6, *model.shape), generator=generator) if x is None else x
    if name == "euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    else:
        kind = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler, "dpm": diffusers.DPMSolverMultistepScheduler}
        config = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "clip_sample": False}
        config |= {"prediction_type": {"epsilon": "epsilon", "v": "v_prediction"}[model.prediction]}
        config |= {"timestep_spacing": {"epsilon": "leading", "v": "trailing"}[model.prediction]}
        config = config if name != "dpm" else {k: v for k, v in config.items() if k != "clip_sample"}
        scheduler = kind[name](**config)
        scheduler.set_timesteps(steps)
    path = []
    for t in scheduler.timesteps[skipped:]:
        output = model.network(x, t.expand(6), torch.zeros(6, model.label_size))
        output = output if torch.is_tensor(output) else output.sample
        answer = scheduler.step(output, t, x, generator=generator)
        path.append(getattr(answer, "pred_original_sample", None))
        x = answer.prev_sample
    return x, path


@pytest.mark.parametrize(("way", "sampler"), SAMPLERS)
@torch.no_grad()
def test_sample_is_diffusers_loop(way, sampler):
    torch.manual_seed(0)
    for model in (exact(way), Diffusion(**SMALL, prediction=way)):
        x, path = sample(model, 6, steps=5, sampler=sampler, generator=draws(), keep=True)
        expected, kept = reference(model, sampler, 5, draws())
        assert (x - expected).abs().max() <= 1e-6 * expected.abs().max()
        assert path.shape == (5, 6, *model.shape)
        if sampler in ("ddim", "ddpm"):
            assert torch.allclose(path, torch.stack(kept), atol=1e-4, rtol=1e-4)
        assert torch.equal(sample(model, 6, steps=5, sampler=sampler, generator=draws()), x)
        assert not torch.allclose(sample(model, 6, steps=5, sampler=sampler, generator=draws(1)), x)
        assert not torch.allclose(sample(model, 6, steps=4, sampler=sampler, generator=draws()), x)
    if sampler in ("ddim", "euler", "dpm"):  # the last step of these goes to the predicted clean latents
        assert torch.allclose(path[-1], x, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_guidance_is_the_formula(way):
    model = conditional(way)
    x, t, words = torch.randn(3, 4, 8, 8, generator=draws()), torch.tensor([10, 500, 990]), torch.tensor([[1, 2, 3, 1]] * 3)
    said, unsaid = model.predict(x, t, words), model.predict(x, t, 0 * words)
    assert (said - unsaid).abs().max() > 1e-3
    for weight in (0.0, 1.0, 3.0):
        expected = unsaid + weight * (said - unsaid)
        assert torch.allclose(diffusion.guided(model, x, t, words, weight), expected, atol=1e-5)
    assert torch.equal(diffusion.guided(model, x, t, words, 1.0), said)


@torch.no_grad()
def test_words_and_guidance_change_what_is_drawn():
    model, can = conditional(), prompts.prompt("can")
    settings = {"n": 2, "steps": 4, "model": model}
    plain, said = sample(**settings, generator=draws()), sample(**settings, words=can, generator=draws())
    pushed = sample(**settings, words=can, guidance=4, generator=draws())
    assert (plain - said).abs().max() > 1e-4 and (pushed - said).abs().max() > 1e-4
    assert torch.allclose(sample(**settings, words=can, guidance=0, generator=draws()), plain, atol=1e-5)
    assert torch.equal(sample(**settings, words=0 * can, generator=draws()), plain)
    other = torch.stack([can, prompts.prompt("jar")])
    mixed = sample(**settings, words=other, generator=draws())
    assert torch.allclose(mixed[0], said[0], atol=1e-5) and not torch.allclose(mixed[1], said[1], atol=1e-5)


def test_the_label_is_the_sum_of_the_words_vectors():
    model = conditional()
    seen = []
    model.network.forward = lambda x_t, t, label: seen.append(label) or x_t
    words = torch.tensor([[2, 0, 6, 1], [0, 0, 0, 0]])
    model.predict(torch.zeros(2, 4, 8, 8), torch.zeros(2), words)
    (label,) = seen
    table = [module.weight for module in model.words]
    assert torch.allclose(label[0], table[0][2] + table[2][6] + table[3][1]) and not label[1].any()


# Image to image


def vae_stage():
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4).eval()
    pictures = torch.rand(6, 3, 16, 16, generator=draws())
    vae.fit_normaliser(pictures)
    return vae, pictures


@pytest.mark.parametrize(("way", "sampler"), SAMPLERS)
@torch.no_grad()
def test_strength_runs_from_the_round_trip_to_forgetting(way, sampler):
    vae, pictures = vae_stage()
    model = Diffusion(**SMALL, prediction=way)
    settings = {"steps": 5, "sampler": sampler}

    def paint(strength, x=pictures):
        return diffusion.image_to_image(vae, model, x, strength, generator=draws(), **settings)

    assert torch.allclose(paint(0.0), vae.reconstruct(pictures).clamp(0, 1), atol=1e-5)
    assert torch.equal(paint(1.0), paint(1.0, pictures.flip(0)))
    assert torch.allclose(paint(1.0), diffusion.paint(vae, model, 6, generator=draws(), **settings))
    assert not torch.allclose(paint(0.4), paint(0.4, pictures.flip(0)))

    start, generator = vae.normalise(vae.code(pictures)), draws()
    noise = torch.randn(start.shape, generator=generator)
    alpha, sigma = model.schedule(diffusion.scheduler_for(model, sampler, 5).timesteps[3, None])
    expected, _ = reference(model, sampler, 5, generator, alpha * start + sigma * noise, skipped=3)
    got = sample(model, 6, start=start, strength=0.4, generator=draws(), **settings)
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()


@torch.no_grad()
def test_the_more_is_forgotten_the_further_away_it_ends():
    model = exact("v")
    start = 2.0 * torch.ones(4000, 2, 1, 1)
    far = [sample(model, 4000, start=start, strength=s, steps=50, generator=draws()) for s in (0.0, 0.1, 0.3, 0.6, 1.0)]
    moved = [float((x - start).square().mean()) for x in far]
    assert moved[0] == 0 and moved == sorted(moved)
    assert sample(model, 4000, start=start, strength=0, keep=True)[1].shape == (0, 4000, 2, 1, 1)


def test_paint_gives_pictures():
    vae, _ = vae_stage()
    pictures = diffusion.paint(vae, conditional(), 3, steps=2, words=prompts.prompt("can"), guidance=2, generator=draws())
    assert pictures.shape == (3, 3, 16, 16) and not pictures.requires_grad
    assert pictures.min() >= 0 and pictures.max() <= 1
    z = torch.randn(2, 4, 8, 8, generator=draws())
    with torch.no_grad():
        assert torch.equal(diffusion.develop(vae, z), vae.paint(vae.denormalise(z)).clamp(0, 1))


# Diffusion as a VAE of many layers


def gaussian_chain(layers=60):
    """Data N(μ, Σ), a schedule that ends in noise, and the true p(x_{t−1} | x_t), all in float64."""
    torch.manual_seed(3)
    mix = torch.randn(3, 3, dtype=torch.float64)
    mean, covariance = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), mix @ mix.T + 0.3 * torch.eye(3).double()
    angle = torch.linspace(0.02, math.pi / 2 - 1e-4, layers, dtype=torch.float64)
    alphas, sigmas = angle.cos(), angle.sin()

    def reverse(x_t, t):
        """p(x_{t−1} | x_t) by conditioning the joint Gaussian of the two layers."""
        alpha, sigma = (alphas[t - 1], sigmas[t - 1]) if t else (torch.tensor(1.0).double(), torch.tensor(0.0).double())
        before = alpha**2 * covariance + sigma**2 * torch.eye(3).double()
        ratio = alphas[t] / alpha
        now = alphas[t] ** 2 * covariance + sigmas[t] ** 2 * torch.eye(3).double()
        gain = torch.linalg.solve(now, ratio * before).T
        return alpha * mean + (x_t - alphas[t] * mean) @ gain.T, before - ratio * gain @ before

    return MultivariateNormal(mean, covariance), alphas, sigmas, reverse


CORNERS = torch.cat([torch.eye(3), -torch.eye(3)]).double().mul(math.sqrt(3))[:, None]  # exact for squares of ε


def test_the_bound_is_the_likelihood_where_every_step_back_is_true():
    data, alphas, sigmas, reverse = gaussian_chain()
    x = data.sample((5,))
    assert torch.allclose(bound(x, alphas, sigmas, reverse, noise=CORNERS), data.log_prob(x), atol=1e-4)
    one, same, other = (bound(x, alphas, sigmas, reverse, draws(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    many = torch.randn(400, 1, 3, generator=draws(1), dtype=torch.float64)  # what a fresh draw is, on average
    assert torch.allclose(bound(x, alphas, sigmas, reverse, noise=many), data.log_prob(x), atol=1.0)
    assert ((one - data.log_prob(x)).abs() > 1e-3).all()


def test_a_wrong_step_back_costs_exactly_its_kl():
    data, alphas, sigmas, reverse = gaussian_chain(layers=20)
    x = data.sample((4,))

    def shifted(x_t, t):
        mean, covariance = reverse(x_t, t)
        return mean + 0.3 * (t == 7), covariance

    # for an equal covariance the expected extra KL is ½ shiftᵀ Σ⁻¹ shift − shiftᵀ Σ⁻¹ (E[true mean of q] − mean)
    right, wrong = (bound(x, alphas, sigmas, step, noise=CORNERS) for step in (reverse, shifted))
    x_t = alphas[7] * x + sigmas[7] * CORNERS
    mean, covariance = reverse(x_t, 7)
    truth, variance, _ = diffusion.step_back(alphas, sigmas, 7, x_t, x)
    truth = MultivariateNormal(truth, variance * torch.eye(3).double())
    extra = kl_divergence(truth, MultivariateNormal(mean + 0.3, covariance)) - kl_divergence(truth, MultivariateNormal(mean, covariance))
    assert torch.allclose(right - wrong, extra.mean(0), atol=1e-9)


def test_on_average_every_wrong_step_back_falls_below():
    data, alphas, sigmas, reverse = gaussian_chain(layers=20)
    x = data.sample((300,))
    exact_value = data.log_prob(x).mean()

    def posterior_variance(x_t, t):
        mean, _ = reverse(x_t, t)
        _, variance, added = diffusion.step_back(alphas, sigmas, t, x_t, mean)
        return mean, (variance if t else added)

    def wide(x_t, t):
        mean, covariance = reverse(x_t, t)
        return mean, 2 * covariance

    def moved(x_t, t):
        mean, covariance = reverse(x_t, t)
        return 0.9 * mean, covariance

    assert float(bound(x, alphas, sigmas, reverse, noise=CORNERS).mean()) == pytest.approx(float(exact_value), abs=1e-4)
    for wrong in (posterior_variance, wide, moved):
        assert bound(x, alphas, sigmas, wrong, noise=CORNERS).mean() < exact_value - 0.05


def test_the_kls_are_torchs_for_a_diagonal_variance_too():
    """The same step back as one variance, as a row and as a matrix."""
    data, alphas, sigmas, _ = gaussian_chain(layers=10)
    x, values = data.sample((3,)), []
    for form in (torch.tensor(0.2), 0.2 * torch.ones(3), 0.2 * torch.eye(3)):
        values.append(bound(x, alphas, sigmas, lambda x_t, t, form=form: (0.9 * x_t, form.double()), noise=CORNERS))
    assert torch.allclose(values[0], values[1]) and torch.allclose(values[0], values[2])


@pytest.mark.parametrize("way", WAYS)
def test_the_bound_of_a_model_rises_to_the_likelihood_with_its_steps(way):
    torch.manual_seed(7)
    data = MultivariateNormal(MEAN, COVARIANCE)
    x = data.sample((4000,))
    values = [float(bound(x, *diffusion.chain(exact(way), steps), generator=draws()).mean()) for steps in (5, 20, 100)]
    most = float(data.log_prob(x).mean())
    assert values[0] < values[1] < values[2] < most + 0.01 and values[2] > most - 0.2


def test_the_bound_of_a_unet_takes_words():
    model = conditional()
    x = torch.randn(3, 256, generator=draws())
    words = prompts.words_of(ads.sample_factors(3))
    plain, said = (bound(x, *diffusion.chain(model, 4, w), generator=draws()) for w in (None, words))
    assert plain.shape == (3,) and not torch.allclose(plain, said)
    assert plain.isfinite().all()


# What goes in, what is kept, and what is refused


def test_rows_are_latents_and_words():
    z, words = torch.randn(5, 4, 8, 8, generator=draws()), prompts.words_of(ads.sample_factors(5))
    table = rows(z, words)
    assert torch.equal(table[:, :256].view_as(z), z) and torch.equal(table[:, 256:].long(), words)
    assert torch.equal(rows(z), z.flatten(1))
    with pytest.raises(ValueError, match="5 latents and 4 prompts; give one prompt for each"):
        rows(z, words[:4])


def test_latents_off_the_scale_are_refused():
    z = torch.randn(200, 4, 4, 4, generator=draws())
    for scale in (0.85, 1.2):
        diffusion.check_unit(scale * z)
    for wrong in (0.75 * z, 1.3 * z, z / 0.18215, z * math.nan, z + 1):
        with pytest.raises(ValueError, match=r"mean .* and standard deviation .*; call vae.fit_normaliser\(pictures\)"):
            rows(wrong)


def test_normalised_latents_of_a_vae_pass():
    vae, pictures = vae_stage()
    with torch.no_grad():
        raw = vae.encode(pictures).sample(draws())
    diffusion.check_unit(vae.normalise(raw))
    with pytest.raises(ValueError, match="fit_normaliser"):
        diffusion.check_unit(5 * vae.normalise(raw))


@pytest.mark.parametrize("way", WAYS)
def test_saved_and_loaded_it_draws_the_same(tmp_path, way):
    model = conditional(way)
    settings = {"steps": 3, "words": prompts.prompt("can, winter"), "guidance": 2.0}
    whole = diffusion.load(diffusion.save(model, tmp_path / "whole"))
    assert torch.equal(sample(whole, 2, generator=draws(), **settings), sample(model, 2, generator=draws(), **settings))
    assert whole.slots == model.slots == prompts.VOCABULARY and list(whole.slots) == list(prompts.VOCABULARY)
    assert (whole.shape, whole.prediction, whole.drop, whole.training) == (model.shape, way, 0.1, False)
    half = diffusion.load(diffusion.save(model, tmp_path / "half", half=True))
    x, t, words = torch.randn(2, 4, 8, 8, generator=draws()), torch.tensor([100, 800]), torch.ones(2, 4, dtype=torch.long)
    with torch.no_grad():
        assert torch.allclose(half.predict(x, t, words), model.predict(x, t, words), atol=0.02)
    assert storage.read(tmp_path / "half")[0]["network.conv_in.weight"].dtype == torch.float16


def test_the_models_size_fits_a_checkpoint(tmp_path):
    model = Diffusion(vocabulary=prompts.VOCABULARY)
    assert sum(p.numel() for p in model.parameters()) <= 950_000
    assert diffusion.save(model, tmp_path / "model", half=True).stat().st_size <= 2_000_000


@pytest.mark.parametrize(
    ("setting", "value"), [("widths", (8, 24)), ("layers", 2), ("shape", (3, 8, 8)), ("vocabulary", {"theme": ("a",)})]
)
def test_every_setting_of_the_network_changes_it(setting, value):
    def sizes(**changes):
        return [p.shape for p in Diffusion(**(SMALL | changes)).parameters()]

    assert sizes() != sizes(**{setting: value})


def test_attention_is_at_the_smallest_size_only():
    from diffusers.models.attention_processor import Attention

    network = Diffusion((4, 8, 8), (8, 16, 16)).network
    found = [name for name, module in network.named_modules() if isinstance(module, Attention)]
    assert found == ["mid_block.attentions.0"]


def test_bad_input_is_refused_in_a_sentence(tmp_path):
    model, plain = conditional(), Diffusion(**SMALL)
    z = torch.zeros(2, 4, 8, 8)
    refused = [
        (lambda: Diffusion(prediction="x0"), "no prediction 'x0'; choose one of epsilon, v, flow"),
        (lambda: Diffusion((4, 6, 6), (8, 8, 8)), r"Latents of \(4, 6, 6\) cannot be halved 2 times"),
        (lambda: plain(torch.zeros(2, 260)), r"Rows of 260 numbers are not latents of \(4, 8, 8\) and 0 words"),
        (lambda: sample(plain, 2, guidance=3), "guidance=3 needs words"),
        (lambda: sample(plain, 2, words=torch.ones(4)), r"Words of shape \(4,\) do not fit"),
        (lambda: sample(model, 2, words=torch.tensor([7, 0, 0, 0])), r"from 0 \(unsaid\) to \[6, 5, 6, 3\]"),
        (lambda: sample(model, 2, words=torch.tensor([-1, 0, 0, 0])), "give whole numbers"),
        (lambda: sample(model, 2, words=torch.ones(3, 4)), r"\(4,\) or \(2, 4\)"),
        (lambda: sample(plain, 2, sampler="euler"), "'euler' with steps=30 does not fit .* 'v'; choose ddim or ddpm or dpm"),
        (lambda: sample(plain, 2, steps=0), "steps=0 does not fit"),
        (lambda: sample(plain, 2, steps=1001), "1 to 1000 steps"),
        (lambda: sample(plain, 2, start=z, strength=1.1), r"strength lie in \[0, 1\]; got strength=1.1"),
        (lambda: sample(plain, 3, start=z), r"start must be latents of shape \(3, 4, 8, 8\)"),
        (lambda: diffusion.save(exact("v"), tmp_path / "x"), "a network of its own cannot be saved"),
    ]
    for call, sentence in refused:
        with pytest.raises(ValueError, match=sentence):
            call()
    storage.write(tmp_path / "other", {"a": torch.zeros(1)}, {"config": {}})
    with pytest.raises(storage.StorageError, match="other holds no Diffusion"):
        diffusion.load(tmp_path / "other")


# The miniature prompt


def test_a_prompt_in_words_and_as_a_dict():
    expected = torch.tensor([2, 2, 4, 3])
    assert torch.equal(prompts.prompt("A can in summer, ocean; scenic"), expected)
    assert torch.equal(prompts.prompt("scenic ocean summer can"), expected)
    asked = {"product": "can", "theme": "summer", "palette": "ocean", "mood": "scenic"}
    assert torch.equal(prompts.prompt(asked), expected)
    assert prompts.spell(expected) == "can, summer, ocean, scenic"
    assert torch.equal(prompts.prompt("a jar"), torch.tensor([4, 0, 0, 0])) and not prompts.prompt("").any()
    assert prompts.spell(torch.tensor([0, 3, 0, 1])) == "winter, plain"


def test_words_are_read_off_the_factors():
    factors = ads.sample_factors(200, seed=4)
    words = prompts.words_of(factors)
    assert words.shape == (200, 4) and words.dtype == torch.int64 and words.min() == 1
    for i in (0, 17, 199):
        row = factors[i]
        ground = {"flat": "plain", "gradient": "spotlit", "scene": "scenic"}[row.words("background")[0]]
        said = ", ".join([*(row.words(name)[0] for name in ("product", "theme", "palette")), ground])
        assert prompts.spell(words[i]) == said and torch.equal(prompts.prompt(said), words[i])


def test_about_twenty_words_and_none_in_two_slots():
    words = [word for known in prompts.VOCABULARY.values() for word in known]
    assert len(words) == len(set(words)) == 20 and not set(words) & prompts.FILLERS


def test_unknown_words_are_named_with_the_known_ones():
    with pytest.raises(prompts.UnknownWord, match="no word 'car'; it knows product: bottle, can, .*; mood: plain, spotlit, scenic"):
        prompts.prompt("a car")
    with pytest.raises(prompts.UnknownWord, match="'summer' is not a product of the prompt; choose from bottle"):
        prompts.prompt({"product": "summer"})
    with pytest.raises(prompts.UnknownWord, match="no slot 'brand' in a prompt; the slots are product, theme, palette, mood"):
        prompts.prompt({"brand": "Orrin"})
    with pytest.raises(ValueError, match="two words for the slot product, the second is 'jar'"):
        prompts.prompt("can or jar".replace("or", "and"))
