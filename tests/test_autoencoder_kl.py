"""`AutoencoderKL` against diffusers' own, weight for weight; its scale, its tiles and its files."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vaelab import storage
from vaelab.autoencoder_kl import CONFIG, WEIGHTS, AutoencoderKL, NotFinite, tiled
from vaelab.objectives import Elbo
from vaelab.storage import StorageError

CONFIGS = {
    "two levels": {"block_out_channels": (8, 16)},
    "as in Stable Diffusion": {"block_out_channels": (8, 16, 16), "layers_per_block": 2},
    "as in SD 3 and FLUX.1": {
        "block_out_channels": (8, 16), "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False,
    },
    "one level": {"block_out_channels": (8,), "latent_channels": 2},
    "four levels, no attention": {"block_out_channels": (8, 8, 16, 16), "mid_block_add_attention": False},
    "grey in, colour out": {"block_out_channels": (8, 16), "in_channels": 1, "out_channels": 3},
    "one quant conv": {"block_out_channels": (16, 8), "use_quant_conv": False},
}  # fmt: skip
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def small(name="two levels", **settings):
    """A VAE with random weights, biases too, so that none of them can be forgotten."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**{"norm_num_groups": 4} | CONFIGS[name] | settings)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return vae.eval()


def theirs(vae):
    """diffusers' model with the same config and weights."""
    import diffusers

    model = diffusers.AutoencoderKL(**vae.config).eval()
    model.load_state_dict(vae.state_dict(), strict=True)
    return model


def pictures(n=2, channels=3, height=16, width=24, seed=1):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def latents(vae, n=2, height=4, width=6, seed=2):
    shape = (n, vae.config["latent_channels"], height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def borders(values):
    """The outer rows and columns, where a wrong padding shows."""
    rows, columns = values[..., [0, -1], :], values[..., [0, -1]]
    return torch.cat([rows.flatten(), columns.flatten()])


# -- against diffusers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_posterior_and_painting_are_diffusers(name):
    ours = small(name)
    model, x, z = theirs(ours), pictures(channels=ours.config["in_channels"]), latents(ours)
    with torch.no_grad():
        posterior, expected = ours.encode(x), model.encode(2 * x - 1).latent_dist
        assert_close(posterior.mean, expected.mean, **NEAR)
        assert_close(posterior.log_variance, expected.logvar, **NEAR)
        assert_close(borders(posterior.mean), borders(expected.mean), **NEAR)
        painted = model.decode(z).sample / 2 + 0.5
        assert_close(ours.paint(z), painted, **NEAR)
        assert_close(borders(ours.paint(z)), borders(painted), **NEAR)
        assert torch.equal(ours.code(x), posterior.mean) and torch.equal(ours.decode(z).mean, ours.paint(z))
    assert posterior.mean.shape == (2, ours.config["latent_channels"], 16 // ours.factor, 24 // ours.factor)
    assert_close(posterior.kl(), expected.kl(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_diffusers(name):
    """Of one number that depends on the mean, the variance and the painting, by the picture and by every weight."""
    ours = small(name)
    model, x, z = theirs(ours), pictures(channels=ours.config["in_channels"]), latents(ours)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weigh = torch.linspace(-1, 1, 24)  # so that no sum is blind to places
    posterior, other = ours.encode(x_ours), model.encode(2 * x_theirs - 1).latent_dist
    across = weigh[: posterior.mean.shape[-1]]
    painted, painted_theirs = ours.paint(z), model.decode(z).sample / 2 + 0.5
    across_painted = torch.linspace(-1, 1, painted.shape[-1])
    for encoded, log_variance, picture in (
        (posterior.mean, posterior.log_variance, painted), (other.mean, other.logvar, painted_theirs),
    ):  # fmt: skip
        total = (encoded.sin() * across).mean() + log_variance.cos().mean()
        (total + (picture.sin() * across_painted).mean()).backward()
    assert_close(x_ours.grad, x_theirs.grad, rtol=1e-4, atol=1e-6)
    assert_close(borders(x_ours.grad), borders(x_theirs.grad), rtol=1e-4, atol=1e-6)
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert x_ours.grad.abs().max() > 1e-4 and min(float(grad.norm()) for grad in grads.values()) > 0
    for parameter_name, parameter in ours.named_parameters():
        assert_close(parameter.grad, grads[parameter_name], **NEAR, msg=parameter_name)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (20, 12), (13, 22), (5, 31)])
def test_any_size_comes_back_as_large(height, width):
    """Sizes that are no multiple of the factor are continued by their last row and column, and cut back."""
    ours = small("as in Stable Diffusion")
    model, x = theirs(ours), pictures(height=height, width=width)
    whole = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
    with torch.no_grad():
        expected = model.decode(model.encode(2 * whole - 1).latent_dist.mode()).sample / 2 + 0.5
        assert_close(ours.reconstruct(x), expected[..., :height, :width], **NEAR)


def test_reconstruct_takes_the_mean():
    """Trap T9: twice the same, whatever the state of the random numbers, and in training mode too."""
    vae, x = small().train(), pictures()
    first = vae.reconstruct(x)
    torch.manual_seed(99)
    assert torch.equal(first, vae.reconstruct(x))
    assert torch.equal(first, vae.paint(vae.encode(x).mean))


def test_what_is_painted_is_not_clamped():
    vae = small()
    with torch.no_grad():
        painted = vae.paint(30 * latents(vae))
    assert painted.min() < -0.05 and painted.max() > 1.05


def test_no_batch_is_felt():
    """One picture at a time gives what the batch gives: nothing in the network looks at its neighbours."""
    vae, x = small(), pictures(5)
    with torch.no_grad():
        assert_close(torch.cat([vae.reconstruct(one) for one in x.split(1)]), vae.reconstruct(x), **NEAR)


def test_slices_give_the_whole_batch_in_order_and_never_see_more(monkeypatch):
    vae, x, seen = small(), pictures(5), []
    code = vae.code
    monkeypatch.setattr(vae, "code", lambda part: seen.append(len(part)) or code(part))
    with torch.no_grad():
        whole = vae.reconstruct(x)
        for at_once, parts in ((1, [1] * 5), (2, [2, 2, 1]), (9, [5])):
            seen.clear()
            assert_close(vae.reconstruct(x, at_once=at_once), whole, **NEAR)
            assert seen == parts


def test_log_variance_is_clamped_as_in_diffusers():
    vae, x = small(), pictures()
    with torch.no_grad():
        vae.quant_conv.bias[4:] = torch.tensor([-200.0, 200.0, 0.0, 0.0])
        found, expected = vae.encode(x).log_variance, theirs(vae).encode(2 * x - 1).latent_dist.logvar
    assert_close(found, expected, **NEAR)
    assert set(found[:, :2].unique().tolist()) == {-30.0, 20.0}


def test_the_terms_of_the_elbo():
    vae, x = small(), pictures()
    vae.log_sigma.fill_(math.log(0.3))
    terms = vae(x, generator=torch.Generator().manual_seed(5))
    posterior = vae.encode(x)
    z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(5))
    seen = torch.distributions.Normal(vae.paint(z), 0.3).log_prob(x).sum((1, 2, 3))
    q, prior = torch.distributions.Normal(posterior.mean, posterior.std), torch.distributions.Normal(0.0, 1.0)
    assert isinstance(terms, Elbo)
    assert_close(terms.reconstruction, seen, rtol=1e-5, atol=1e-3)
    assert_close(terms.kl, torch.distributions.kl_divergence(q, prior).sum((1, 2, 3)), rtol=1e-5, atol=1e-4)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_written_here_read_by_diffusers(name, tmp_path):
    import diffusers

    vae = small(name, scaling_factor=0.3, shift_factor=0.1)
    folder = vae.save_pretrained(tmp_path / "vae")
    model, information = diffusers.AutoencoderKL.from_pretrained(folder, output_loading_info=True)
    assert not information["missing_keys"] and not information["unexpected_keys"] and not information["mismatched_keys"]
    x = pictures(channels=vae.config["in_channels"])
    with torch.no_grad():
        assert_close(vae.code(x), model.encode(2 * x - 1).latent_dist.mean, **NEAR)
    assert {field: model.config[field] for field in vae.config} == vae.config


@pytest.mark.parametrize("name", CONFIGS)
def test_written_by_diffusers_read_here(name, tmp_path):
    vae = small(name, latents_mean=[0.5] * small(name).config["latent_channels"])
    theirs(vae).save_pretrained(tmp_path)
    back = AutoencoderKL.from_pretrained(tmp_path)
    assert back.config == vae.config and not back.training
    assert all(torch.equal(tensor, back.state_dict()[key]) for key, tensor in vae.state_dict().items())


def test_the_width_of_decode_is_kept(tmp_path):
    """The ELBO of a loaded VAE is that of the saved one; diffusers leaves the field aside."""
    vae, x = small(), pictures()
    vae.log_sigma.fill_(-1.25)
    back = AutoencoderKL.from_pretrained(vae.save_pretrained(tmp_path))
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert float(back.log_sigma) == -1.25
    assert torch.equal(vae(x, noise[0]).reconstruction, back(x, noise[1]).reconstruction)


def test_half_the_size_on_disk(tmp_path):
    vae = small()
    full, half = vae.save_pretrained(tmp_path / "full"), vae.save_pretrained(tmp_path / "half", half=True)
    assert {t.dtype for t in load_file(half / WEIGHTS).values()} == {torch.float16}
    assert (half / WEIGHTS).stat().st_size < 0.7 * (full / WEIGHTS).stat().st_size
    back = AutoencoderKL.from_pretrained(half)
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    assert_close(back.code(pictures()), vae.code(pictures()), rtol=0.01, atol=0.01)


def damage(folder, fault):
    """Spoils one thing in a folder with a VAE."""
    weights, config = folder / WEIGHTS, folder / CONFIG
    tensors, fields = load_file(weights), json.loads(config.read_text())
    if fault == "missing":
        del tensors["decoder.conv_in.bias"]
    elif fault == "extra":
        tensors["decoder.conv_more.bias"] = torch.zeros(3)
    elif fault == "misshapen":
        tensors["decoder.conv_in.bias"] = torch.zeros(3)
    elif fault == "field":
        fields["batch_norm_eps"] = 1e-4
    elif fault == "groups":
        fields["norm_num_groups"] = 3
    elif fault == "block":
        fields["down_block_types"] = ["AttnDownEncoderBlock2D"] * 2
    save_file(tensors, weights)
    config.write_text({"not json": "{", "a list": "[1]"}.get(fault, json.dumps(fields)))
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif fault in ("no weights", "no config"):
        (weights if fault == "no weights" else config).unlink()


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("missing", ValueError, r"does not fit its config: 1 weights differ, such as decoder\.conv_in\.bias"),
        ("extra", ValueError, r"does not fit its config: 1 weights differ, such as decoder\.conv_more\.bias"),
        ("misshapen", ValueError, r"does not fit its config: 1 weights differ, such as decoder\.conv_in\.bias"),
        ("field", ValueError, "has fields that AutoencoderKL does not know: batch_norm_eps"),
        ("groups", ValueError, "norm_num_groups must divide every width; got act_fn='silu', norm_num_groups=3"),
        ("block", ValueError, "only DownEncoderBlock2D is known here; use diffusers"),
        ("not json", StorageError, "holds no VAE in diffusers' format"),
        ("a list", StorageError, "holds no VAE in diffusers' format"),
        ("no config", StorageError, f"holds no VAE in diffusers' format.*give the folder with {CONFIG} and {WEIGHTS}"),
        ("no weights", StorageError, f"{WEIGHTS} cannot be read.*check the name"),
        ("cut", StorageError, f"{WEIGHTS} cannot be read.*take a fresh copy"),
    ],
)
def test_a_damaged_folder_gets_its_sentence(tmp_path, fault, kind, says):
    folder = small().save_pretrained(tmp_path)
    damage(folder, fault)
    with pytest.raises(kind, match=says):
        AutoencoderKL.from_pretrained(folder)


def test_a_write_that_fails_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(storage.StorageError, match="cannot be written"):
        small().save_pretrained(tmp_path / "file")


# -- the scale of the latents --------------------------------------------------------------------------------------


PIPELINES = {
    "stable_diffusion/pipeline_stable_diffusion_img2img.py": (
        "self.vae.config.scaling_factor * init_latents", {"scaling_factor": 0.18215},
    ),
    "stable_diffusion_3/pipeline_stable_diffusion_3_img2img.py": (
        "(init_latents - self.vae.config.shift_factor) * self.vae.config.scaling_factor",
        {"scaling_factor": 1.5305, "shift_factor": 0.0609},
    ),
    "stable_diffusion_xl/pipeline_stable_diffusion_xl_img2img.py": (
        "(init_latents - latents_mean) * self.vae.config.scaling_factor / latents_std",
        {"scaling_factor": 0.5, "latents_mean": [-1.6, 0.2, 1.9, 0.0], "latents_std": [9.9, 6.0, 7.6, 0.3]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", PIPELINES)
def test_normalise_is_what_a_pipeline_does(file):
    """Trap T18: scale alone; shift, then scale; a mean and a spread a channel. Diffusers' own lines are the oracle."""
    import diffusers

    expression, fields = PIPELINES[file]
    assert f"init_latents = {expression}\n" in (Path(diffusers.__file__).parent / "pipelines" / file).read_text()
    vae = small(**fields)
    z, given = latents(vae), {"self": SimpleNamespace(vae=SimpleNamespace(config=SimpleNamespace(**vae.config)))}
    given |= {name: torch.tensor(fields[name]).view(1, 4, 1, 1) for name in fields if name.startswith("latents")}
    expected = eval(expression, given | {"init_latents": z})
    assert_close(vae.normalise(z), expected, **NEAR)
    assert_close(vae.denormalise(expected), z, rtol=1e-4, atol=1e-4)
    assert (expected - z).abs().max() > 0.1


def test_a_scale_is_one_over_a_spread():
    """Trap T18: the docs call 0.18215 a standard deviation; it is 1 over one."""
    z = 5.49 * torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert abs(float(small(scaling_factor=0.18215).normalise(z).std()) - 1) < 0.02


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_normaliser_is_fitted_to_all_pictures(per_channel):
    """Mean 0 and standard deviation 1 of the *draws*, over all pictures, however they are batched."""
    vae = small(latents_mean=[9.0] * 4, latents_std=[9.0] * 4)
    x = torch.cat([pictures(30), 0.2 * pictures(34, seed=4)])  # the first batch is not like the rest
    fields = vae.fit_normaliser(x, per_channel, batch_size=16)
    assert {name: vae.config[name] for name in fields} == fields
    with torch.no_grad():
        posterior = vae.encode(x)
    draws = torch.stack([vae.normalise(posterior.sample(torch.Generator().manual_seed(i))) for i in range(100)])
    assert posterior.variance.mean() > 0.05 * posterior.mean.var()  # or the draws' share could not be seen
    dims = (0, 1, 3, 4) if per_channel else None
    spread = draws.double().std(dims, correction=0) if per_channel else draws.double().std(correction=0)
    middle = draws.double().mean(dims) if per_channel else draws.double().mean()
    assert_close(spread, torch.ones_like(spread), rtol=0, atol=2e-3)
    assert_close(middle, torch.zeros_like(middle), rtol=0, atol=2e-3)
    again = small().fit_normaliser(x, per_channel, batch_size=64)
    for name, value in fields.items():
        assert value is None or value == pytest.approx(again[name], rel=1e-5), name


def test_the_normaliser_in_closed_form():
    """Variance of the means plus mean of the variances, to float precision."""
    vae, x = small(), pictures(40)
    fields = vae.fit_normaliser(x, batch_size=7)
    with torch.no_grad():
        posterior = vae.encode(x)
    mean, variance = posterior.mean.double(), posterior.variance.double()
    std = (mean.var(correction=0) + variance.mean()).sqrt()
    assert fields["scaling_factor"] == pytest.approx(1 / float(std), rel=1e-5)
    assert fields["shift_factor"] == pytest.approx(float(mean.mean()), rel=1e-4)


# -- tiles ---------------------------------------------------------------------------------------------------------


def local(kernel, scale=1):
    """A decoder that sees `kernel // 2` places around each, and nothing else: no GroupNorm, no attention."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, kernel, padding=kernel // 2), nn.SiLU(), nn.Upsample(scale_factor=scale), nn.Conv2d(4, 3, 1)
    ).eval()  # fmt: skip


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (53, 16), (12, 71), (9, 11)])
def test_tiles_of_a_local_decoder_are_the_whole(scale, height, width):
    """With an overlap of 12, three places are thrown away: a radius of 3 is exact."""
    z = torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, model = local(7, scale)(z), local(7, scale)
        assert_close(tiled(model, z, scale, tile=16, overlap=12), whole, rtol=0, atol=1e-6)


def test_a_decoder_that_sees_too_far_shows_seams():
    """Trap T28: the same comparison fails where it must, on both sides of 0."""
    z = torch.randn(2, 2, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = tiled(local(15), z, 1, tile=16, overlap=12) - local(15)(z)
    assert difference.max() > 0.01 and difference.min() < -0.01
    with torch.no_grad():
        assert (tiled(local(7), z, 1, tile=16, overlap=0) - local(7)(z)).abs().max() > 0.01


def test_tiles_fade_into_one_another():
    """Half-way through the overlap both count alike, and a constant stays one."""
    calls = []

    def number(part):
        calls.append(tuple(part.shape[-2:]))
        return torch.full_like(part[:, :1], len(calls) - 1)

    ramp = tiled(number, torch.zeros(1, 1, 8, 24), 1, tile=16, overlap=8)[0, 0, 0]
    assert calls == [(8, 16), (8, 16)]
    expected = torch.cat([torch.zeros(10), torch.tensor([0.125, 0.375, 0.625, 0.875]), torch.ones(10)])
    assert_close(ramp, expected)
    constant = tiled(lambda part: torch.full_like(part, 0.7), torch.zeros(1, 3, 37, 50), 1, tile=16, overlap=4)
    assert_close(constant, torch.full((1, 3, 37, 50), 0.7))


@pytest.mark.parametrize("attention", [True, False])
def test_tiles_of_the_real_thing_are_near_and_not_equal(attention):
    """GroupNorm, and attention the more, see the whole tile: so tiled and whole differ in principle."""
    vae, x = small(mid_block_add_attention=attention), pictures(1, height=61, width=75)
    with torch.no_grad():
        whole, parts = vae.reconstruct(x), vae.reconstruct(x, tile=32)
    assert parts.shape == x.shape and parts.isfinite().all()
    off = float((parts - whole).abs().mean())
    assert 1e-5 < off < float(whole.std())
    with torch.no_grad():
        assert_close(vae.reconstruct(x, tile=128), whole, **NEAR)


@pytest.mark.parametrize("settings", [{"tile": 30}, {"tile": 32, "overlap": 6}, {"tile": 32, "overlap": 32}, {"tile": 0}])
def test_tiles_that_are_none(settings):
    with pytest.raises(ValueError, match=r"make no tiles; give multiples of 4, overlap in \[0, tile\)"):
        small("as in Stable Diffusion").reconstruct(pictures(), **settings)


def test_the_default_overlap_falls_on_whole_latents():
    """A quarter of 24 is 6, which is no multiple of 4: it is rounded down, or the tiles' grids would not meet."""
    vae, x = small("as in Stable Diffusion"), pictures(1, height=48, width=48)
    assert torch.equal(vae.reconstruct(x, tile=24), vae.reconstruct(x, tile=24, overlap=4))


# -- precision -----------------------------------------------------------------------------------------------------


def test_half_precision_is_near():
    vae, x = small(), pictures()
    with torch.no_grad():
        whole = vae.reconstruct(x)
        for dtype, near in ((torch.bfloat16, 0.1), (torch.float16, 0.01)):
            other = small().to(dtype).reconstruct(x)
            assert other.dtype == dtype and (other.float() - whole).abs().max() < near


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_overflow_in_float16_is_said_and_not_painted(part):
    """Weights that float16 holds and whose sums it does not, as in SDXL's VAE."""
    vae, x = small(), pictures()
    with torch.no_grad():
        getattr(vae, part).conv_out.weight.mul_(1e5)
        assert vae.reconstruct(x).isfinite().all()
        assert vae.bfloat16().reconstruct(x).isfinite().all()
        assert all(weight.isfinite().all() for weight in vae.half().parameters())
        with pytest.raises(NotFinite, match=rf"The {part} gave values.*torch.float16.*in float32 or bfloat16"):
            vae.reconstruct(x)


def test_broken_weights_are_said_in_float32():
    vae = small()
    with torch.no_grad():
        vae.decoder.conv_out.bias[0] = torch.nan
        with pytest.raises(NotFinite, match="decoder gave values.*torch.float32.*check the weights"):
            vae.paint(latents(vae))
