"""Stage 1: every term by hand, who gets which gradient, and the same training again from the middle."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vaelab import training
from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.distributions import DiagonalGaussian
from vaelab.stage1 import PatchDiscriminator, PerceptualDistance, Stage1, Stage1Objective
from vaelab.training import evaluate, fit


def small_vae():
    torch.manual_seed(0)
    return AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, mid_block_add_attention=False)


def features(kernel=3, seed=1):
    """A small network to see with: two layers, each with its activation."""
    torch.manual_seed(seed)
    pad = kernel // 2
    return nn.Sequential(nn.Conv2d(3, 6, kernel, padding=pad), nn.SiLU(), nn.Conv2d(6, 5, kernel, padding=pad), nn.SiLU())


def critic():
    torch.manual_seed(2)
    return PatchDiscriminator(widths=(8, 8))


def stage(perceptual=True, discriminator=True, **settings):
    seen = PerceptualDistance(features()) if perceptual else None
    return Stage1(small_vae(), perceptual=seen, discriminator=critic() if discriminator else None, **settings)


def pictures(n=4, size=16, seed=3):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noise(seed=5):
    return torch.Generator().manual_seed(seed)


def painted(model, x, seed=5):
    """What `forward` paints with the same noise."""
    return model.vae.paint(model.vae.encode(x).sample(noise(seed)))


def gradients(module):
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def after(model, objective, x=None, step=None):
    """The gradients of the loss, by parameter."""
    model.zero_grad(set_to_none=True)
    objective(model(pictures() if x is None else x, generator=noise()), step).backward()
    return gradients(model)


class Plain(nn.Module):
    """A stand-in for a VAE that paints each pixel by itself, so that what it does to a picture is known."""

    def __init__(self, log_sigma=-1.5):
        super().__init__()
        self.register_buffer("log_sigma", torch.tensor(log_sigma))

    def encode(self, x):
        return DiagonalGaussian(x, torch.full_like(x, -30))

    def paint(self, z):
        return 0.8 * z + 0.05


# -- the terms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_sigma", [-3.0, 0.2])
def test_the_density_is_that_of_torch(log_sigma):
    """"l2" is a Gaussian of width σ, "l1" a Laplace density of the same standard deviation; constants included."""
    x, y = pictures(), pictures(seed=4)
    sigma = math.exp(log_sigma)
    normal = torch.distributions.Normal(y, sigma).log_prob(x).sum((1, 2, 3))
    laplace = torch.distributions.Laplace(y, sigma / math.sqrt(2)).log_prob(x).sum((1, 2, 3))
    assert_close(Stage1(Plain(log_sigma)).log_density(x, y), normal, rtol=1e-5, atol=1e-3)
    assert_close(Stage1(Plain(log_sigma), error="l1").log_density(x, y), laplace, rtol=1e-5, atol=1e-3)
    assert torch.distributions.Laplace(0.0, sigma / math.sqrt(2)).stddev == pytest.approx(sigma, rel=1e-5)


def test_another_error_is_refused():
    with pytest.raises(ValueError, match="error is 'l1' or 'l2', and 'l3' was given"):
        Stage1(Plain(), error="l3")


@pytest.mark.parametrize("sigma", [0, -1.0, math.nan])
def test_a_width_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma is the width of a density and lies above 0"):
        Stage1(Plain(), sigma=sigma)


def test_every_term_by_hand():
    model, x = stage(), pictures()
    with torch.no_grad():
        model.log_variance.fill_(-3.0)
    terms, y = model(x, generator=noise()), painted(model, x)
    squared = (x - y).square().sum((1, 2, 3))
    pixels = 3 * 16 * 16
    log_density = -0.5 * squared / math.exp(-3) - 0.5 * pixels * (-3 + math.log(2 * math.pi))
    assert_close(terms.reconstruction, log_density, rtol=1e-5, atol=1e-2)
    assert_close(terms.kl, model.vae.encode(x).kl())
    assert_close(terms.perceptual, pixels / (2 * math.exp(-3)) * model.perceptual(y, x), rtol=1e-4, atol=1e-4)
    real, fake = model.discriminator(x), model.discriminator(y)
    hinge = 0.5 * ((1 - real).clamp(min=0) + (1 + fake).clamp(min=0)).mean((1, 2, 3))
    assert_close(terms.discrimination, hinge, rtol=1e-5, atol=1e-6)
    assert all(term.shape == (4,) for term in terms)


@pytest.mark.parametrize(("bias", "expected"), [(3.0, 0.5 * (0 + 4)), (0.0, 0.5 * (1 + 1)), (-0.5, 0.5 * (1.5 + 0.5)), (-2.0, 1.5)])
def test_hinge_values(bias, expected):
    """A discriminator that says one number to all: sure and right costs nothing, sure and wrong costs its margin."""
    judge = nn.Conv2d(3, 1, 1)
    nn.init.zeros_(judge.weight)
    nn.init.constant_(judge.bias, bias)
    terms = Stage1(small_vae(), discriminator=judge)(pictures())
    assert_close(terms.discrimination, torch.full((4,), expected))


def test_the_adversarial_term_is_weighed_as_esser_et_al_do():
    """Eq. 7: ‖∇ (error + perceptual)‖ / (‖∇ adversarial‖ + δ), both at the decoder's last layer."""
    model, x = stage(), pictures()
    terms, y = model(x, generator=noise()), painted(model, x)
    error = -model.log_density(x, y) + 768 / (2 * model.log_variance.exp()) * model.perceptual(y, x)
    opinion = -model.discriminator(y).mean()
    last = model.vae.decoder.conv_out.weight
    of_error, of_opinion = (torch.autograd.grad(v, last, retain_graph=True)[0] for v in (error.mean(), opinion))
    weight = float(of_error.norm() / (of_opinion.norm() + 1e-4))
    assert weight > 1
    assert_close(terms.adversarial.mean(), weight * opinion, rtol=1e-4, atol=1e-4)
    # A number, not a way for gradients: the term's pull on the last layer is that of the error, in length.
    (pull,) = torch.autograd.grad(terms.adversarial.mean(), last)
    assert_close(pull, weight * of_opinion, rtol=1e-3, atol=1e-3)
    assert float(pull.norm()) == pytest.approx(float(of_error.norm()), rel=0.2)


def test_without_the_adaptive_weight_the_opinion_is_charged_as_it_is():
    model, x = stage(adaptive=False), pictures()
    terms, y = model(x, generator=noise()), painted(model, x)
    assert_close(terms.adversarial, -model.discriminator(y).mean((1, 2, 3)), rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_weighed_sum():
    terms = stage()(pictures(), generator=noise())
    objective = Stage1Objective(kl_weight=0.3, perceptual_weight=0.7, adversarial_weight=0.9, adversarial_start=10)
    without = (-terms.reconstruction + 0.3 * terms.kl + 0.7 * terms.perceptual).mean()
    whole = without + (0.9 * terms.adversarial + terms.discrimination).mean()
    assert_close(objective(terms, 9), without)
    for step in (10, 11, None):
        assert_close(objective(terms, step), whole)
    assert (whole - without).abs() > 0.1


def test_a_larger_picture_keeps_the_balance():
    """Trap T13: four times the pixels are four times the error and four times the perceptual term, to the same ratio."""
    model, x = Stage1(Plain(), perceptual=PerceptualDistance(features(kernel=1))), pictures()
    small, large = model(x), model(x.repeat(1, 1, 2, 2))
    assert_close(large.perceptual, 4 * small.perceptual, rtol=1e-4, atol=1e-4)
    assert_close(large.reconstruction, 4 * small.reconstruction, rtol=1e-4, atol=1e-3)
    squared = (x - Plain().paint(x)).square()
    # As if the distance were added to each squared error before the sum over pixels (LDM, by broadcasting).
    each = squared + model.perceptual(Plain().paint(x), x).view(-1, 1, 1, 1)
    expected = each.sum((1, 2, 3)) / (2 * math.exp(-3.0))
    found = small.perceptual + squared.sum((1, 2, 3)) / (2 * math.exp(-3.0))
    assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("left_out", ["perceptual", "discriminator"])
def test_what_is_left_out_is_zero_and_changes_nothing_else(left_out):
    whole = stage()(pictures(), generator=noise())._asdict()
    part = stage(**{left_out: False})(pictures(), generator=noise())._asdict()
    gone = {"perceptual": {"perceptual"}, "discriminator": {"adversarial", "discrimination"}}[left_out]
    # The adversarial weight looks at the whole error, of which the perceptual term is a part.
    changed = gone | ({"adversarial"} if left_out == "perceptual" else set())
    assert {name for name in whole if not torch.equal(whole[name], part[name])} == changed
    for name in gone:
        assert torch.equal(part[name], torch.zeros(4)) and whole[name].abs().min() > 0


# -- gradients -----------------------------------------------------------------------------------------------------


def test_the_perceptual_weight_moves_the_decoder_and_the_net_stays():
    """Trap T5: under no_grad the loss would show another number and train exactly the same."""
    model, objective = stage(discriminator=False), Stage1Objective
    none, some, more = (after(model, objective(perceptual_weight=w)) for w in (0.0, 1.0, 2.0))
    moved = [name for name in none if name.startswith("vae.decoder") and not torch.equal(none[name], some[name])]
    assert len(moved) == len([name for name in none if name.startswith("vae.decoder")])
    last = "vae.decoder.conv_out.weight"
    assert (some[last] - none[last]).norm() > 0.01 * none[last].norm()
    assert_close(more[last] - some[last], some[last] - none[last], rtol=1e-2, atol=1e-2)
    assert all(some[name] is None for name in some if name.startswith("perceptual"))
    assert not any(p.requires_grad for p in model.perceptual.parameters())


def test_sigma_gets_its_gradient():
    """d loss / d log σ² = ½ (pixels − Σ error² / σ²), the mean over pictures; trap T6."""
    model, x = stage(perceptual=False, discriminator=False), pictures()
    squared = (x - painted(model, x)).square().sum((1, 2, 3)) / model.log_variance.exp()
    found = after(model, Stage1Objective(), x)["log_variance"]
    assert_close(found, (0.5 * (768 - squared)).mean(), rtol=1e-4, atol=1e-3)


def test_the_discriminator_learns_from_its_own_loss_alone():
    model, x = stage(), pictures()
    found = after(model, Stage1Objective(perceptual_weight=1.0, adversarial_weight=1.0), x)
    y = painted(model, x).detach()
    model.zero_grad()
    real, fake = model.discriminator(x), model.discriminator(y)
    (0.5 * (F.relu(1 - real) + F.relu(1 + fake))).mean().backward()
    expected = gradients(model.discriminator)
    # But for the last bias: unsure of both, it is pulled up by what is real as much as down by what is not.
    assert all(value.norm() > 0 for value in list(expected.values())[:-1])
    for name, value in expected.items():
        assert_close(found[f"discriminator.{name}"], value, rtol=1e-4, atol=1e-6, msg=name)


def test_nobody_else_learns_from_the_discriminators_loss():
    with_it = after(stage(), Stage1Objective(perceptual_weight=1.0, adversarial_weight=0.0))
    without = after(stage(discriminator=False), Stage1Objective(perceptual_weight=1.0))
    for name, value in without.items():
        assert value is None or torch.equal(with_it[name], value), name


def test_the_decoder_hears_the_discriminator():
    quiet, loud = (after(stage(), Stage1Objective(adversarial_weight=w)) for w in (0.0, 1.0))
    last = "vae.decoder.conv_out.weight"
    assert (loud[last] - quiet[last]).norm() > 0.1 * quiet[last].norm()


def test_before_its_start_the_discriminator_neither_learns_nor_speaks():
    objective = Stage1Objective(adversarial_weight=1.0, adversarial_start=3)
    before, without = after(stage(), objective, step=2), after(stage(discriminator=False), objective, step=2)
    assert all(before[name] is None for name in before if name.startswith("discriminator"))
    assert all(torch.equal(before[name], without[name]) for name in without if without[name] is not None)
    at_start = after(stage(), objective, step=3)
    assert all(at_start[name] is not None for name in at_start if name.startswith("discriminator"))


# -- training ------------------------------------------------------------------------------------------------------

OBJECTIVE = Stage1Objective(perceptual_weight=0.5, adversarial_weight=0.5, adversarial_start=3)


def train(model, x, steps=8, objective=OBJECTIVE, **settings):
    return fit(model, x, steps=steps, batch_size=4, objective=objective, progress=False, **settings)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_what_training_moves():
    """Trap T6 (σ is in the optimiser) and T5 (the net that sees is not): everything moves but that net."""
    model = stage()
    before = state(model)
    history = train(model, pictures(12), record_every=4)
    moved = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if not name.startswith("perceptual")}
    assert "log_variance" in moved and len(history.records) == 2


def test_sigma_finds_the_error():
    """Trained by itself on a fixed painting, σ² becomes the mean squared error."""
    model = Stage1(Plain(log_sigma=-1.0))
    x = pictures(4)
    train(model, x, steps=150, objective=Stage1Objective(kl_weight=0.0), learning_rate=0.1)
    error = float((x - Plain().paint(x)).square().mean())
    assert float(model.log_variance.detach().exp()) == pytest.approx(error, rel=0.02)


def test_a_fixed_sigma_stays_and_is_that_of_the_density():
    model, x = stage(sigma=0.5), pictures()
    normal = torch.distributions.Normal(painted(model, x), 0.5).log_prob(x).sum((1, 2, 3))
    assert_close(model(x, generator=noise()).reconstruction, normal, rtol=1e-5, atol=1e-3)
    before = state(model)
    train(model, x, steps=4)
    assert torch.equal(model.log_variance, before["log_variance"])
    assert not torch.equal(model.vae.decoder.conv_out.weight, before["vae.decoder.conv_out.weight"])
    assert float(model.finish().log_sigma) == pytest.approx(math.log(0.5))


def test_finish_leaves_sigma_in_the_vae():
    model = stage().train()
    with torch.no_grad():
        model.log_variance.fill_(-4.0)
    vae = model.finish()
    assert vae is model.vae and not vae.training and float(vae.log_sigma) == -2.0
    x = pictures()
    terms = vae(x, generator=noise())
    assert_close(terms.reconstruction, model.log_density(x, painted(model, x)), rtol=1e-5, atol=1e-2)


def test_sigma_starts_where_the_vae_has_it():
    assert float(stage().log_variance.detach()) == pytest.approx(2 * math.log(0.1))


def test_validation_knows_stage_1():
    model, x = stage(), pictures(6)
    terms = evaluate(model, x, batch_size=4)
    history = train(model, x, steps=2, validation=x)
    assert terms.reconstruction.isfinite() and "validation" in history.last


def test_resumed_is_bit_for_bit_the_run_in_one_go(tmp_path, monkeypatch):
    x, done, real = pictures(12), [], training.update_average
    whole = stage()
    train(whole, x, ema=0.5)

    def counted(*arguments):
        real(*arguments)
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "update_average", counted)
        train(stage(), x, ema=0.5, checkpoint=tmp_path / "cut", checkpoint_every=2)
    resumed = stage()
    train(resumed, x, ema=0.5, checkpoint=tmp_path / "cut", checkpoint_every=2)
    expected = state(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state(resumed).items())


# -- what it is trained by -----------------------------------------------------------------------------------------


def test_the_perceptual_distance_by_hand():
    net = features()
    a, b = pictures(), pictures(seed=4)
    expected = 0.0
    for depth in (2, 4):
        left, right = (F.normalize(net[:depth](p), dim=1) for p in (a, b))
        expected = expected + (left - right).square().sum(1).mean((1, 2))
    distance = PerceptualDistance(net)
    assert_close(distance(a, b), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(distance(a, b), distance(b, a)) and torch.equal(distance(a, a), torch.zeros(4))
    assert distance(a, b).min() > 0.001


@pytest.mark.parametrize("size", [(5, 5), (16, 9), (31, 40)])
def test_the_perceptual_distance_takes_any_size(size):
    a, b = torch.rand(2, 3, *size), torch.rand(2, 3, *size)
    assert PerceptualDistance(features())(a, b).shape == (2,)


def test_the_discriminator_judges_patches():
    """One number a patch: a change in one corner leaves the opposite corner's opinion nearly as it was."""
    judge = critic()
    x = pictures(2, size=64)
    other = x.clone()
    other[..., :8, :8] = 0
    with torch.no_grad():
        difference = (judge(x) - judge(other)).abs()
    assert judge(x).shape[:2] == (2, 1) and judge(x).shape[-1] == judge(x).shape[-2] > 4
    assert difference[..., :3, :3].amax() > 5 * difference[..., -3:, -3:].amax()
