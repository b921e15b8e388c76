"""The benchmarks run, on tiny data and budgets; what they print is measured, and nothing is timed here."""

import argparse
import json
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmarks import (
    audit_memory,
    five_losses,
    latent_savings,
    latent_smoothness,
    mnist,
    optimizers,
    peers,
    throughput,
)
from vaelab import fidelity, recipes_kl
from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.distributions import BernoulliLikelihood
from vaelab.models import VAE
from vaelab.training import evaluate


@pytest.fixture
def pictures():
    grey = torch.rand(60, *peers.SHAPE, generator=torch.Generator().manual_seed(0))
    return (grey * 255).round() / 255


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_binarised_pixels_are_on_as_often_as_they_are_bright():
    x = torch.tensor([0.0, 0.25, 0.5, 1.0]).expand(20_000, 4)
    assert_close(mnist.binarise(x, generator()).mean(0), x[0], atol=0.012, rtol=0)


@pytest.mark.parametrize("networks, latent", [(peers.mlp, 20), (peers.conv, 32)])
def test_the_plain_vae_is_our_vae_written_out(networks, latent, pictures):
    torch.manual_seed(0)
    pair, x = networks(), mnist.binarise(pictures, generator())
    written_out, ours = peers.plain(pair, latent), peers.plain(pair, latent, VAE)
    a, b = written_out(x, generator(1)), ours(x, generator(1))
    assert_close(a.reconstruction, b.reconstruction, atol=1e-2, rtol=0)
    assert_close(a.kl, b.kl, atol=1e-3, rtol=0)


def test_the_published_network_has_the_published_size():
    sizes = [sum(p.numel() for p in network.parameters()) for network in peers.mlp()]
    assert sizes == [784 * 400 + 400 + 400 * 40 + 40, 20 * 400 + 400 + 400 * 784 + 784]


def test_the_plain_loop_takes_the_steps_it_was_given_and_learns(pictures):
    torch.manual_seed(0)
    model, x = peers.plain(peers.mlp(), 20), mnist.binarise(pictures, generator())
    before = float(evaluate(model, x).value)
    assert peers.plain_loop(model, x, steps=12, batch_size=16) == 12
    assert float(evaluate(model, x).value) > before + 1


@pytest.fixture
def prior():
    torch.manual_seed(0)
    prior = mnist.AutoregressivePrior(latent=3, hidden=12)
    with torch.no_grad():
        prior.outer.weight.normal_(0, 0.5)
        prior.outer.bias.normal_(0, 0.3)
    return prior


def test_the_learned_prior_starts_as_the_standard_normal():
    z = torch.randn(5, 3, generator=generator())
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert_close(mnist.AutoregressivePrior(latent=3, hidden=12).log_prob(z), normal)


def test_the_learned_prior_is_a_density(prior):
    axis = torch.linspace(-12, 12, 121)
    grid = torch.cartesian_prod(axis, axis, axis)
    total = prior.log_prob(grid).exp().sum() * float(axis[1] - axis[0]) ** 3
    assert_close(float(total.detach()), 1.0, atol=0.01, rtol=0)


def test_the_learned_prior_looks_only_back(prior):
    z = torch.randn(1, 3, generator=generator())
    for output in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda z, i=output: prior.parameters_at(z)[i][0], z)[:, 0]
        assert torch.equal(jacobian.triu(), torch.zeros(3, 3))
        assert jacobian.tril(-1).count_nonzero() == 3


def test_draws_of_the_learned_prior_have_its_entropy(prior):
    """Each coordinate's standardised residual is N(0, 1), so E[(residual)²] = 1."""
    z = prior.sample(20_000, generator()).detach()
    mean, log_sigma = prior.parameters_at(z)
    residual = ((z - mean) * torch.exp(-log_sigma)).detach()
    assert_close(residual.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    assert_close(residual.var(0), torch.ones(3), atol=0.05, rtol=0)


def test_the_decoder_begins_with_the_mean_picture(pictures):
    _, decoder = mnist.residual_networks(pictures, width=8, latent=3)
    with torch.no_grad():
        decoder[-2].weight.zero_()
    painted = BernoulliLikelihood()(decoder(torch.zeros(1, 3))).mean[0]
    assert_close(painted, pictures.mean(0), atol=1e-5, rtol=0)


def test_one_table_of_mnist(pictures, monkeypatch, capsys):
    monkeypatch.setattr(mnist.mnist, "load", lambda split: (pictures, None))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    mnist.main(["--seconds", "1"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row[:58].strip() for row in rows] == list(mnist.ROWS) and "−ELBO" in head
    for row in rows:
        elbo, bound, *_ = (float(value) for value in row[58:].split())
        assert 300 < bound < elbo < 1000  # noise of 784 pixels: 784 · ln 2 = 543 nats at best
    assert sum(row.startswith("vaelab") for row in rows) == 1


def test_one_table_of_throughput(monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    throughput.main(["--rounds", "1", "--pictures", "256"])
    _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(throughput.NETWORKS) * len(throughput.CONTESTANTS)
    for row in rows:
        if not row.endswith("not installed"):
            speed, ratio = (float(value) for value in row[52:].split())
            assert speed > 0 and math.isfinite(ratio)


def test_a_peer_that_is_not_installed_says_so(monkeypatch):
    def missing(*arguments):
        raise ImportError

    monkeypatch.setitem(throughput.CONTESTANTS, "pythae trainer", missing)
    x = torch.zeros(128, *peers.SHAPE)
    contestants = throughput.line_up(peers.mlp, 20, x, "unused")
    rows = list(throughput.table("MLP", contestants, {name: [2.0] for name in list(contestants)[:3]}, 128))
    assert contestants["pythae trainer"] is None
    assert rows[-1].endswith("not installed") and rows[0].split()[-2:] == ["64", "1.00"]


def test_ratios_are_taken_within_a_round():
    seconds = {"vaelab fit": [1.0, 10.0, 2.0], "plain loop": [2.0, 5.0, 3.0]}
    contestants = dict.fromkeys(seconds, print)
    row = list(throughput.table("MLP", contestants, seconds, 300))[1]
    assert row.split()[-2:] == ["100", "1.50"]


# Latent diffusion: what it saves, what smoothness does for it, five losses


@pytest.fixture
def small_savings(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_savings, "RESULTS", tmp_path)
    for name, value in {"ADS": 80, "DRAWN": 250, "STEPS": 2, "STAGE_STEPS": 2, "BUDGETS": (1, 2)}.items():
        monkeypatch.setattr(latent_savings, name, value)
    return tmp_path


def test_what_a_budget_buys_is_stored_run_by_run_and_goes_on_where_it_was_stopped(small_savings, monkeypatch):
    real, calls = latent_savings.draw, []

    def interrupted(model, vae, seed):
        calls.append((vae is None, model.shape))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, vae, seed)

    monkeypatch.setattr(latent_savings, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        latent_savings.quality(32, seed=0)
    file = small_savings / "quality-32-0.json"
    before = json.loads(file.read_text())["runs"]
    assert [(run["space"], run["steps"]) for run in before] == [("latent", 1), ("latent", 2)]
    latent_savings.quality(32, seed=0)
    record = json.loads(file.read_text())
    assert record["runs"][:2] == before and len(record["runs"]) == 4
    assert calls == [(False, (4, 8, 8))] * 2 + [(True, (3, 32, 32))] * 3
    assert all(run["n"] == 250 and run["frechet"] > record["ceiling"] * 0.1 for run in record["runs"])
    assert not list(small_savings.glob(".*"))  # no state is left behind
    latent_savings.quality(32, seed=1, spaces=["pixel"], budgets=[2])
    assert [run["steps"] for run in json.loads((small_savings / "quality-32-1.json").read_text())["runs"]] == [2]


def test_as_many_are_drawn_as_are_asked_for(small_savings, monkeypatch):
    monkeypatch.setattr(latent_savings, "DRAWN", 7)
    for at_once in (3, 500):  # no divisor, and more than all: 500 is a GPU's
        monkeypatch.setattr(latent_savings, "DRAWN_AT_ONCE", {"cpu": at_once})
        assert len(latent_savings.draw(latent_savings.network("pixel", 32).eval(), None, seed=0)) == 7


def test_the_bill_measures_what_is_missing_only(small_savings, monkeypatch):
    measured = []

    def one(command, **_):
        options = dict(zip(command[4::2], command[5::2], strict=True))
        row = {"space": options["--space"], "size": int(options["--size"]), "batch": int(options["--batch"])}
        measured.append(tuple(row.values()))
        if len(measured) == 5:
            raise KeyboardInterrupt
        return argparse.Namespace(stdout=json.dumps(row))

    monkeypatch.setattr(latent_savings.subprocess, "run", one)
    with pytest.raises(KeyboardInterrupt):
        latent_savings.all_costs()
    latent_savings.all_costs()
    rows = json.loads((small_savings / "cost.json").read_text())["rows"]
    assert len(measured) == len(rows) + 1 == 19 and measured[4] == measured[5]  # four were kept
    assert len({(row["space"], row["size"], row["batch"]) for row in rows}) == 18


@pytest.mark.parametrize("space", ["pixel", "latent", "stage"])
def test_a_row_of_the_bill_counts_what_it_names(space):
    row = latent_savings.cost(space, 32, batch=2, steps=1)
    assert row["space"] == space and row["train_seconds"] > 0 and row["megabytes"] > 50
    assert ("draw_seconds" in row) == (space != "stage")


def test_a_dearer_kl_makes_wider_clouds_and_worse_round_trips(monkeypatch):
    small = {"STAGE_STEPS": 40, "STEPS": 1, "BATCH": 8, "DRAWN": 250, "PATHS": 4}
    for name, value in small.items():
        monkeypatch.setattr(latent_smoothness, name, value)
    monkeypatch.setattr(recipes_kl, "whole_ads", lambda size: torch.randint(256, (64, 3, size, size), dtype=torch.uint8))
    cheap, dear = latent_smoothness.measure(0.0, seed=0), latent_smoothness.measure(10.0, seed=0)
    assert dear["kl"] < 0.7 * cheap["kl"] and dear["cloud"] > cheap["cloud"]
    assert dear["psnr"] < cheap["psnr"] and cheap["ceiling"] < cheap["frechet"]
    assert dear["spread"] != cheap["spread"] and dear["prior"] != dear["noise"]  # two ways to decode noise


def test_the_stored_losses_are_those_of_the_shipped_stages():
    stored = json.loads((five_losses.DATA / "five-losses.json").read_text())
    assert set(stored["rows"]) == {"start", *recipes_kl.TUNING} and set(stored["left_out"]) == set(recipes_kl.LEFT_OUT)
    ads = recipes_kl.held_out_ads(20)
    for loss, name in (("start", "kl-f8-c4"), ("sharp", "kl-f8-c4-sharp")):
        vae = AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / name)
        back = five_losses.trips(vae, ads)
        assert float(fidelity.psnr(ads, back).mean()) == pytest.approx(stored["rows"][loss]["psnr"], abs=0.6)  # 20 of 100


def test_a_sheet_of_pictures_keeps_every_picture_in_its_place():
    pictures = torch.rand(2, 3, 3, 8, 6, generator=generator())
    sheet = torch.from_numpy(np.array(five_losses.sheet(pictures))) / 255
    assert sheet.shape == (16, 18, 3)
    assert_close(sheet[8:, 6:12].permute(2, 0, 1), pictures[1, 1], atol=0.5 / 255 + 1e-6, rtol=0)


def test_optimizers_are_compared_on_the_same_stage(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["optimizers", "--steps", "1"])
    monkeypatch.setattr(optimizers, "RATES", {optimizers.adamw: (1e-9,), optimizers.Muon: (1e-9,)})
    monkeypatch.setattr(optimizers.recipes_kl, "cut_outs", lambda share: torch.rand(8, 3, 16, 16))
    monkeypatch.setattr(optimizers.recipes_kl, "held_out_ads", lambda n: torch.rand(2, 3, 16, 16))
    optimizers.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["adamw", "Muon"]
    assert lines[0].split()[4] == lines[1].split()[4]  # next to no step: both are where they began


def test_optimizers_are_compared_on_the_same_diffusion():
    result, unit = optimizers.denoisers(steps=1, ads_seen=20, held_out=8)
    untouched, too = result(optimizers.adamw, 1e-9), result(optimizers.Muon, 1e-9)
    assert untouched == pytest.approx(too, abs=1e-5) and 0.5 < untouched < 3 and "v" in unit  # v has variance 1
    moved = [result(optimizer, 0.01) for optimizer in (optimizers.adamw, optimizers.Muon)]
    assert abs(moved[0] - untouched) > 1e-4 and abs(moved[1] - untouched) > 1e-4 and moved[0] != moved[1]


# The audit's memory


def test_the_memory_of_an_audit_is_that_of_its_own_process(tmp_path):
    found = audit_memory.measure(64)
    assert found["size"] == 64 and 0.1 < found["gib"] < 2 and found["processor_seconds"] > 0
    assert audit_memory.sheet(600).size == (600, 600)
    audit_memory.sd_size(tmp_path, block_out_channels=(32, 64), layers_per_block=1)
    assert AutoencoderKL.from_pretrained(tmp_path).factor == 2
