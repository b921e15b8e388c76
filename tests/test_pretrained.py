"""VAEs by name, folder and file: the right weights under the right names, and one sentence where there are none."""

import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from vaelab import pretrained
from vaelab.autoencoder_kl import CONFIG, WEIGHTS, AutoencoderKL
from vaelab.storage import StorageError

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4}
LAYOUTS = {
    "as in Stable Diffusion": {"layers": 2, "widths": (8, 16, 16), "latent": 4},
    "as in SD 3 and FLUX.1": {"layers": 2, "widths": (8, 16), "latent": 16, "quant": False},
    "one level": {"layers": 1, "widths": (8,), "latent": 2},
    "without attention": {"layers": 1, "widths": (8, 8, 16, 16), "latent": 3, "attention": False},
    "grey": {"layers": 1, "widths": (8, 16), "latent": 4, "channels": 1},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test asks the hub, whatever the machine is set to."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def ldm(layers, widths, latent, channels=3, quant=True, attention=True):
    """Random weights with the names and shapes of CompVis/latent-diffusion's `AutoencoderKL`."""
    draw, out = torch.Generator().manual_seed(0), {}

    def add(name, *shape):
        out[f"{name}.weight"] = 0.3 * torch.randn(shape, generator=draw)
        out[f"{name}.bias"] = 0.3 * torch.randn(shape[:1], generator=draw)

    def block(name, before, after):
        for norm, width in (("norm1", before), ("norm2", after)):
            add(f"{name}.{norm}", width)
        add(f"{name}.conv1", after, before, 3, 3)
        add(f"{name}.conv2", after, after, 3, 3)
        if before != after:
            add(f"{name}.nin_shortcut", after, before, 1, 1)

    def middle(side):
        block(f"{side}.mid.block_1", widths[-1], widths[-1])
        block(f"{side}.mid.block_2", widths[-1], widths[-1])
        if attention:
            add(f"{side}.mid.attn_1.norm", widths[-1])
            for layer in ("q", "k", "v", "proj_out"):
                add(f"{side}.mid.attn_1.{layer}", widths[-1], widths[-1], 1, 1)

    last, before = len(widths) - 1, widths[0]
    add("encoder.conv_in", widths[0], channels, 3, 3)
    for i, width in enumerate(widths):
        for j in range(layers):
            block(f"encoder.down.{i}.block.{j}", before, width)
            before = width
        if i < last:
            add(f"encoder.down.{i}.downsample.conv", width, width, 3, 3)
    middle("encoder")
    add("encoder.norm_out", widths[-1])
    add("encoder.conv_out", 2 * latent, widths[-1], 3, 3)
    add("decoder.conv_in", widths[-1], latent, 3, 3)
    middle("decoder")
    for i, width in reversed(list(enumerate(widths))):
        for j in range(layers + 1):
            block(f"decoder.up.{i}.block.{j}", before, width)
            before = width
        if i:
            add(f"decoder.up.{i}.upsample.conv", width, width, 3, 3)
    add("decoder.norm_out", widths[0])
    add("decoder.conv_out", channels, widths[0], 3, 3)
    if quant:
        add("quant_conv", 2 * latent, 2 * latent, 1, 1)
        add("post_quant_conv", latent, latent, 1, 1)
    return out


def pictures(channels=3, n=2, height=16, width=24):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(1))


def small(**settings):
    torch.manual_seed(0)
    return AutoencoderKL(**TINY | settings).eval()


def saved(folder, **settings):
    """A small VAE and the folder that it was written to."""
    vae = small(**settings)
    return vae, vae.save_pretrained(folder)


def same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# -- one file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
def test_ldm_weights_do_what_they_do_in_diffusers(layout, prefix):
    """Oracle: diffusers' own conversion, on weights of which none is like another."""
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    tensors = {prefix + name: tensor for name, tensor in ldm(**LAYOUTS[layout]).items()}
    vae = pretrained.from_ldm(tensors | {"model.diffusion_model.out.2.weight": torch.zeros(3)}, norm_num_groups=4)
    config = {name: value for name, value in vae.config.items()}
    theirs = diffusers.AutoencoderKL(**config).eval()
    theirs.load_state_dict(convert_ldm_vae_checkpoint(dict(tensors), config), strict=True)
    x = pictures(vae.config["in_channels"])
    with torch.no_grad():
        expected = theirs.encode(2 * x - 1).latent_dist
        found = vae.encode(x)
        assert_close(found.mean, expected.mean, rtol=1e-5, atol=1e-5)
        assert_close(found.log_variance, expected.logvar, rtol=1e-5, atol=1e-5)
        assert_close(vae.paint(expected.mean), theirs.decode(expected.mean).sample / 2 + 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_config_is_read_off_the_shapes(layout):
    asked = {"channels": 3, "quant": True, "attention": True} | LAYOUTS[layout]
    config = pretrained.from_ldm(ldm(**LAYOUTS[layout]), norm_num_groups=4, scaling_factor=0.5, shift_factor=0.1).config
    assert config["block_out_channels"] == list(asked["widths"])
    assert config["layers_per_block"] == asked["layers"] and config["latent_channels"] == asked["latent"]
    assert config["in_channels"] == config["out_channels"] == asked["channels"]
    assert config["use_quant_conv"] == config["use_post_quant_conv"] == asked["quant"]
    assert config["mid_block_add_attention"] == asked["attention"] and config["norm_num_groups"] == 4
    assert config["scaling_factor"] == 0.5 and config["shift_factor"] == 0.1


def test_a_file_says_nothing_of_the_scale():
    vae = pretrained.from_ldm(ldm(**LAYOUTS["one level"]), norm_num_groups=4)
    z = torch.randn(2, 2, 3, 3)
    assert torch.equal(vae.normalise(z), z)


def test_one_file_with_diffusers_names(tmp_path):
    vae = small(block_out_channels=(32, 64), norm_num_groups=32)
    save_file({f"vae.{name}": tensor for name, tensor in vae.state_dict().items()}, tmp_path / "a.safetensors")
    loaded = pretrained.load(tmp_path / "a.safetensors")
    assert same(loaded, vae) and loaded.config | {"scaling_factor": 0.18215} == vae.config
    assert loaded.source.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("dropped", "named"),
    [("encoder.", "encoder.conv_in.weight"), ("decoder.", "decoder.conv_in.weight"), ("encoder.down.0", "encoder.down_blocks.0")],
)
def test_half_a_vae_is_refused(tmp_path, dropped, named):
    left = {name: tensor for name, tensor in ldm(**LAYOUTS["one level"]).items() if not name.startswith(dropped)}
    save_file(left, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match=rf"half\.safetensors holds no whole VAE: there is no {re.escape(named)}.*; give"):
        pretrained.load(tmp_path / "half.safetensors")


def test_a_missing_layer_is_named():
    tensors = ldm(**LAYOUTS["as in Stable Diffusion"])
    del tensors["decoder.up.0.block.1.conv2.bias"]
    with pytest.raises(ValueError, match=r"1 weights differ, such as decoder\.up_blocks\.2\.resnets\.1\.conv2\.bias"):
        pretrained.from_ldm(tensors, norm_num_groups=4)


def test_only_safetensors_are_opened(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match=r"model\.ckpt is no \.safetensors file.*take that version"):
        pretrained.load(tmp_path / "model.ckpt")
    (tmp_path / "text.safetensors").write_text("not a safetensors file, by far")
    with pytest.raises(StorageError, match=r"text\.safetensors cannot be read.*fresh copy"):
        pretrained.load(tmp_path / "text.safetensors")


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_and_where_it_came_from(tmp_path):
    vae, folder = saved(tmp_path / "mine")
    loaded = pretrained.load(folder)
    assert same(loaded, vae) and loaded.config == vae.config and not loaded.training
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert loaded.source == (str(folder), digest)


def test_a_shipped_name_goes_before_a_folder(tmp_path, monkeypatch):
    vae, _ = saved(tmp_path / "checkpoints" / "kl-f4-c4")
    saved(tmp_path / "here" / "kl-f4-c4", latent_channels=2)
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path / "here")
    assert pretrained.shipped() == ["kl-f4-c4"]
    assert same(pretrained.load(), vae) and pretrained.load().source.name == "kl-f4-c4"


def test_half_precision(tmp_path):
    vae, folder = saved(tmp_path / "mine")
    loaded = pretrained.load(folder, half=True)
    assert {p.dtype for p in loaded.parameters()} == {torch.float16}
    assert_close(loaded.code(pictures()), vae.code(pictures()), rtol=0.02, atol=0.02)


def test_attention_named_as_in_2022(tmp_path):
    """The published weights of Stable Diffusion 1 still have these names."""
    vae, folder = saved(tmp_path / "old")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = vae.state_dict()
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): tensor for key, tensor in tensors.items()}
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file(tensors, folder / WEIGHTS)
    assert same(pretrained.load(folder), vae)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(StorageError, match=rf"holds no VAE in diffusers' format.*give the folder with {CONFIG}"):
        pretrained.load(tmp_path)


# -- TAESD ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    """A folder with a small `AutoencoderTiny`, and diffusers' own object."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8,) * 3, "decoder_block_out_channels": (8,) * 3}
    network = AutoencoderTiny(**widths, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), latent_channels=5)
    network.save_pretrained(tmp_path / "taesd")
    return tmp_path / "taesd", network.eval()


def test_taesd_behind_the_same_contract(tiny):
    folder, network = tiny
    vae, x = pretrained.load(folder), pictures(height=13, width=22)
    assert vae.factor == 4 and not vae.training and len(vae.source.sha256) == 64
    whole = torch.nn.functional.pad(x, (0, 2, 0, 3), mode="replicate")
    # The raw weights take [0, 1] (github.com/madebyollin/taesd); diffusers' class takes [-1, 1].
    z = network.encoder.layers(whole)
    assert_close(vae.code(whole), z, rtol=1e-5, atol=1e-5)
    assert_close(vae.paint(z), network.decoder.layers(3 * torch.tanh(z / 3)), rtol=1e-5, atol=1e-5)
    assert_close(vae.reconstruct(x), vae.paint(z)[..., :13, :22], rtol=1e-5, atol=1e-5)
    assert torch.equal(vae.normalise(z), z) and torch.equal(vae.denormalise(z), z)
    posterior = vae.encode(whole)
    assert_close(posterior.sample(), posterior.mean, rtol=0, atol=1e-5)
    assert_close(vae.decode(z).mean, vae.paint(z))


def test_taesd_in_half_precision_and_written_again(tiny, tmp_path):
    folder, _ = tiny
    whole, half = pretrained.load(folder), pretrained.load(folder, half=True)
    assert_close(half.reconstruct(pictures()).float(), whole.reconstruct(pictures()), rtol=0.02, atol=0.02)
    whole.save_pretrained(tmp_path / "again")
    assert same(pretrained.load(tmp_path / "again"), whole)


def test_taesd_with_a_weight_missing(tiny):
    folder, network = tiny
    tensors = network.state_dict()
    tensors.pop("decoder.layers.0.bias")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"1 weights differ, such as network\.decoder\.layers\.0\.bias"):
        pretrained.load(folder)


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "near"), [("sdlx", "sdxl"), ("taesdx", "taesdxl"), ("flux-1", "flux1"), ("kl-f4", "kl-f4-c4")])
def test_an_unknown_name_gets_the_nearest(tmp_path, monkeypatch, wrong, near):
    saved(tmp_path / "kl-f4-c4")
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path)
    with pytest.raises(ValueError, match=f"no VAE '{wrong}'.*nearest name is '{near}'.*Shipped: kl-f4-c4; published: sd15"):
        pretrained.load(wrong)


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StorageError) as caught:
        pretrained.load("sd15")
    command = f"hf download stable-diffusion-v1-5/stable-diffusion-v1-5 vae/{CONFIG} vae/{WEIGHTS} --local-dir sd15"
    assert command in str(caught.value) and "load the folder 'sd15/vae/'" in str(caught.value)


def test_from_the_hubs_cache(tmp_path, monkeypatch):
    """What was downloaded once is found again without a network, in the layout of huggingface_hub's cache."""
    vae, folder = saved(tmp_path / "models--stabilityai--sdxl-vae" / "snapshots" / ("0" * 40))
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    loaded = pretrained.load("sdxl")
    assert same(loaded, vae) and loaded.source.name == "sdxl"


OFFLINE, ONLINE, PROXY = (OSError, {}, True), (None, {}, False), (OSError, {"https": "p"}, False)


@pytest.mark.parametrize(("lookup", "proxies", "local"), [OFFLINE, ONLINE, PROXY])
def test_no_name_no_retries(monkeypatch, lookup, proxies, local):
    """Where the hub's name is not known, only the cache is asked: its retries take half a minute."""
    asked = []

    def look_up(*_):
        if lookup:
            raise lookup("Temporary failure in name resolution")
        return ["an address"]

    monkeypatch.setattr("vaelab.pretrained.socket.getaddrinfo", look_up)
    monkeypatch.setattr("vaelab.pretrained.getproxies", lambda: proxies)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **settings: asked.append(settings) or "nowhere/file")
    pretrained.fetch("sdxl")
    assert asked == [{"local_files_only": local}] * 2


def raising(error):
    def download(*_, **__):
        raise error

    return download


def test_gated_and_not_installed(monkeypatch):
    class GatedRepoError(OSError):
        """As the hub's own, which wants a response of the server."""

    monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(GatedRepoError("403 Client Error\n\nlong")))
    with pytest.raises(StorageError, match=r"accept the licence at https://huggingface.co/stabilityai/stable-diffusion-3\.5") as e:
        pretrained.load("sd3")
    assert "\n" not in str(e.value)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(ImportError("no module")))
    with pytest.raises(StorageError, match=r"pip install 'vaelab\[diffusion\]'"):
        pretrained.load("sd3")


@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_no_float16_where_it_paints_black(name):
    with pytest.raises(ValueError, match=f"{name} paints black pictures in float16; load it without half"):
        pretrained.load(name, half=True)


def test_flux2_is_listed_and_left_to_diffusers():
    with pytest.raises(ValueError, match="flux2 is an AutoencoderKLFlux2.*use diffusers"):
        pretrained.load("flux2")


def test_the_table_has_every_card():
    rows = pretrained.table()
    assert [row["name"] for row in rows] == list(pretrained.CARDS)
    assert {row["range"] for row in rows if row["kind"] == "AutoencoderTiny"} == {"[0, 1]"}
    assert {row["range"] for row in rows if row["kind"] == "AutoencoderKL"} == {"[-1, 1]"}
    for row in rows:
        assert row["source"].startswith(f"https://huggingface.co/{row['repository']}/blob/main/")
        assert row["source"].endswith(f"{row['folder']}config.json") and row["folder"] in ("", "vae/")
        assert row["factor"] == 8 and row["channels"] in (4, 16, 32) and row["licence"] and row["used_by"]
    json.dumps(rows)


def test_a_scale_is_one_over_the_latents_spread():
    """Trap T18: 0.18215 is no standard deviation; it is 1 over one, 5.49."""
    card = pretrained.CARDS["sd15"]
    z = 5.49 * torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert abs(float(small(scaling_factor=card.scaling_factor).normalise(z).std()) - 1) < 0.02
