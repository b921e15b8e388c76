"""`fit` and `evaluate`: the same numbers again, from the middle too; and a stop that loses nothing."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from vaelab import models, storage, training
from vaelab.objectives import BetaObjective, Elbo
from vaelab.training import TrainingDiverged, evaluate, fit

SHAPE = (1, 4, 4)
N = 22


@pytest.fixture(scope="module")
def x():
    return (torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(0)) * 255).round() / 255


def small(kind="vae", seed=0):
    torch.manual_seed(seed)
    return models.build(kind, SHAPE, 2, kind="mlp", channels=(8,))


def train(x, model=None, **settings):
    """A short run; the model and its history."""
    model = small() if model is None else model
    chosen = {"batch_size": 5, "progress": False, "record_every": 3} | settings
    if "epochs" not in chosen:
        chosen.setdefault("steps", 10)
    return model, fit(model, x, **chosen)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def same(a, b):
    return torch.equal(weights(a), weights(b))


def test_fit_is_the_loop_one_would_write(x):
    """Plain torch: AdamW, cosine, gradient of the mean negative ELBO, moving average of the weights."""
    steps, ema, rate = 10, 0.7, 3e-3
    ours, history = train(x, ema=ema, learning_rate=rate, seed=4, record_every=5)
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    average, losses, seen = weights(model), [], []
    for step in range(steps):
        epoch, position = divmod(step, N // 5)
        shuffle = torch.Generator().manual_seed(training.stream(4, "order", epoch))
        batch = torch.randperm(N, generator=shuffle)[5 * position : 5 * position + 5]
        seen.append(batch)
        noise = torch.Generator().manual_seed(training.stream(4, "noise", step, 0))
        q = model.encode(x[batch])
        z = q.mean + torch.exp(q.log_variance / 2) * torch.randn(q.mean.shape, generator=noise)
        error = torch.distributions.Normal(model.decoder(z), model.likelihood.log_sigma.exp()).log_prob(x[batch])
        kl = 0.5 * (q.mean**2 + q.log_variance.exp() - 1 - q.log_variance).sum(1)
        loss = (kl - error.sum((1, 2, 3))).mean()
        optimizer.param_groups[0]["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(ema, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights(model)
        losses.append(float(loss.detach()))
    assert_close(weights(ours), average, atol=1e-6, rtol=1e-5)
    assert (weights(model) - average).abs().max() > 1e-4  # the average is not the last weights
    assert history.column("step") == [5, 10]
    assert_close(history.column("loss"), [sum(losses[:5]) / 5, sum(losses[5:]) / 5], atol=1e-4, rtol=0)
    parts = [r["kl"] - r["reconstruction"] for r in history.records]
    assert_close(history.column("loss"), parts, atol=1e-4, rtol=0)
    # a whole epoch shows no picture twice, and the next one has another order
    assert len(torch.cat(seen[:4]).unique()) == 20
    assert not torch.equal(torch.cat(seen[:4]), torch.cat(seen[4:8]))


def test_same_seed_same_weights_whatever_came_before(x):
    first, history = train(x, ema=0.5)
    torch.rand(17)
    again, history_again = train(x, ema=0.5)
    assert same(first, again) and history.records == history_again.records


def test_dropout_is_seeded_and_the_callers_random_numbers_are_left_alone(x):
    def run(before):
        model = small()
        model.encoder.insert(2, torch.nn.Dropout(0.5))
        torch.manual_seed(before)
        return train(x, model)[0]

    assert same(run(before=1), run(before=2))
    small()  # seeds with 0
    expected = torch.rand(3)
    train(x)  # builds the same model first
    assert torch.equal(torch.rand(3), expected)


def test_gradients_left_by_the_caller_do_not_count(x):
    model = small()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    assert same(train(x, model)[0], train(x)[0])


def test_what_should_not_matter_does_not(x, tmp_path):
    plain, _ = train(x)
    assert same(plain, train(x, record_every=1)[0])
    assert same(plain, train(x, validation=x)[0])
    assert same(plain, train(x, checkpoint=tmp_path / "state", checkpoint_every=2)[0])
    assert same(plain, train((x * 255).round().to(torch.uint8))[0])
    assert same(train(x, steps=12)[0], train(x, epochs=3)[0])  # 22 pictures make four batches of five


def test_every_setting_matters(x):
    plain, _ = train(x)
    changes = {
        "steps": 11,
        "batch_size": 6,
        "learning_rate": 1e-3,
        "objective": BetaObjective(beta=2.0),
        "transform": lambda batch, generator: 1 - batch,
        "ema": 0.9,
        "bf16": True,
        "seed": 1,
    }
    for name, value in changes.items():
        assert not same(plain, train(x, **{name: value})[0]), name
    for change in ({"beta": 0.5}, {"warmup": 5}, {"free_bits": 0.5}, {"capacity": 3.0}):
        assert not same(plain, train(x, objective=BetaObjective(**change))[0]), change


def test_the_transform_gets_seeded_noise(x):
    def binarise(batch, generator):
        return torch.bernoulli(batch, generator=generator)

    first = train(x, transform=binarise)[0]
    torch.rand(5)
    assert same(first, train(x, transform=binarise)[0])


def test_warmup_counts_steps_and_validation_does_not(x):
    steps = []

    def objective(terms, step):
        steps.append(step)
        return BetaObjective(warmup=5)(terms, step)

    train(x, objective=objective, validation=x)
    assert steps == list(range(10))


def test_validation_is_the_elbo_in_evaluation_mode(x):
    model, history = train(x, validation=x, objective=BetaObjective(beta=7.0, warmup=100))
    assert history.column("validation")[-1] == pytest.approx(float(evaluate(model, x, 5, seed=0).value))
    assert len(history.column("validation")) == len(history.records) == 4
    assert history.last is history.records[-1] and not model.training


# -- going on -----------------------------------------------------------------------------------------------------


def interrupt_after(monkeypatch, steps):
    done, real = [], training.update_average

    def counted(*arguments):
        real(*arguments)
        done.append(1)
        if len(done) == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "update_average", counted)


@pytest.mark.parametrize("stop", [2, 5, 7, 9])
def test_resumed_is_bit_for_bit_the_run_in_one_go(x, tmp_path, monkeypatch, stop):
    whole, history = train(x, ema=0.6, checkpoint=tmp_path / "whole", checkpoint_every=2, validation=x)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, stop)
        train(x, ema=0.6, checkpoint=tmp_path / "cut", checkpoint_every=2, validation=x)
    assert (tmp_path / "cut").exists() == (stop > 2)
    torch.manual_seed(12345)
    torch.rand(7)
    resumed, history_resumed = train(
        x, small(seed=8 if stop > 2 else 0), ema=0.6, checkpoint=tmp_path / "cut", checkpoint_every=2, validation=x
    )
    assert same(whole, resumed)
    assert history.records == history_resumed.records
    (tensors, record), (tensors_resumed, record_resumed) = (storage.read(tmp_path / name) for name in ("whole", "cut"))
    assert record == record_resumed and tensors.keys() == tensors_resumed.keys()
    for name in tensors:  # weights, moving average, both moments and step counts of the optimiser
        assert torch.equal(tensors[name], tensors_resumed[name]), name
    assert {name.split("/")[0] for name in tensors} == {"model", "average", "optimizer"}


def test_convolutions_resume_bit_for_bit(tmp_path, monkeypatch):
    """Their weights lie channels last in memory; a file holds the optimiser's moments channels first."""
    pictures = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def conv():
        torch.manual_seed(0)
        return models.vae((3, 8, 8), 2, channels=(8, 16))

    whole, _ = train(pictures, conv())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 7)
        train(pictures, conv(), checkpoint=tmp_path / "cut", checkpoint_every=3)
    resumed, _ = train(pictures, conv(), checkpoint=tmp_path / "cut", checkpoint_every=3)
    assert whole.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert same(whole, resumed)


def test_resuming_does_only_what_is_left(x, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 7)
        train(x, checkpoint=tmp_path / "state", checkpoint_every=3)
    steps, real = [], training.update_average
    monkeypatch.setattr(training, "update_average", lambda *a: (steps.append(a[-1]), real(*a)))
    train(x, checkpoint=tmp_path / "state", checkpoint_every=3)
    assert steps == [6, 7, 8, 9]
    finished, history = train(x, small(seed=3), checkpoint=tmp_path / "state", checkpoint_every=3)
    assert len(steps) == 4 and history.last["step"] == 10  # nothing left: only read back
    assert same(finished, train(x)[0])


def test_another_setting_is_refused_by_name(x, tmp_path):
    path = tmp_path / "state"
    train(x, checkpoint=path)
    wide = models.vae(SHAPE, 2, kind="mlp", channels=(9,))
    changes = {
        "steps": {"steps": 11},
        "batch_size": {"batch_size": 6},
        "learning_rate": {"learning_rate": 1e-3},
        "objective": {"objective": BetaObjective(beta=2)},
        "transform": {"transform": lambda batch, generator: batch},
        "ema": {"ema": 0.9},
        "bf16": {"bf16": True},
        "seed": {"seed": 1},
        "record_every": {"record_every": 2},
        "model": {"model": wide},
    }
    for name, change in changes.items():
        with pytest.raises(ValueError, match=f"{path} belongs to a run with another {name}; delete it to start anew"):
            train(x, checkpoint=path, **change)
    with pytest.raises(ValueError, match="another pictures;"):
        train(1 - x, checkpoint=path)
    with pytest.raises(ValueError, match="another steps and ema;"):
        train(x, checkpoint=path, steps=12, ema=0.3)


def test_a_file_that_is_no_state_is_refused(x, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"rubbish")
    with pytest.raises(storage.StorageError, match=f"{path} is not a file that vaelab wrote"):
        train(x, checkpoint=path)
    models.save(small(), path)
    with pytest.raises(ValueError, match=f"{path} belongs to a run with another model"):
        train(x, checkpoint=path)


# -- stopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_not_a_number_stops_with_the_last_good_weights(x, tmp_path, where):
    model, kept = small(), []

    def objective(terms, step):
        loss = BetaObjective()(terms, step)
        if step == 6:
            kept.append(weights(model))
            # √0 has the value 0 and an infinite slope
            return loss * math.nan if where == "loss" else loss + (0 * terms.kl).sqrt().sum()
        return loss

    with pytest.raises(TrainingDiverged, match="at step 6 .*keeps its weights.*learning rate below 0.002"):
        train(x, model, objective=objective, checkpoint=tmp_path / "state", ema=0.5)
    assert torch.equal(weights(model), kept[0]) and torch.isfinite(kept[0]).all()
    tensors, record = storage.read(tmp_path / "state")
    assert record["step"] == 6
    assert all(torch.equal(tensors[f"model/{name}"], value) for name, value in model.state_dict().items())
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert math.isfinite(train(x, model)[1].last["loss"])  # the model is fit for another try


def test_what_fit_refuses(x):
    for wrong in ({"steps": None}, {"epochs": 2}):
        with pytest.raises(ValueError, match="either steps or epochs, and not both"):
            fit(small(), x, **({"steps": 3} | wrong))
    for wrong in ({"steps": 0}, {"batch_size": 0}, {"record_every": 0}, {"ema": 1.0}, {"learning_rate": 0.0}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ValueError, match=f"make no training: .*{name}={value}"):
            fit(small(), x, **({"steps": 3} | wrong))
    signed = torch.linspace(-1, 1, x.numel()).reshape(x.shape)
    wrong_pictures = {
        "There are no pictures": x[:0],
        "There are no pictures: give a tensor": x.numpy(),
        "type torch.int64 are not understood": (x * 255).long(),
        r"must lie in \[0, 1\], and these go from -1 to 1; divide by 255, or shift": signed,
        r"these go from 0 to 255; divide by 255": 127.5 * (signed + 1),
        "these go from nan to nan": x * math.nan,
    }
    for message, pictures in wrong_pictures.items():
        with pytest.raises(ValueError, match=message):
            fit(small(), pictures, steps=1)
    with pytest.raises(ValueError, match="There are no pictures"):
        evaluate(small(), x[:0])


def test_progress_can_be_silenced(x, capfd, monkeypatch):
    train(x, progress=True)
    assert "step" in capfd.readouterr().err
    train(x, progress=False)
    monkeypatch.setenv("VAELAB_PROGRESS", "0")
    train(x, progress=True)
    shown = capfd.readouterr()
    assert shown.err == "" and shown.out == ""


# -- precision and devices ----------------------------------------------------------------------------------------


def test_bfloat16_trains_and_the_terms_are_float32(x):
    seen = []

    def objective(terms, step):
        seen.append([t.dtype for t in terms])
        return BetaObjective()(terms, step)

    model, history = train(x, objective=objective, bf16=True, steps=30)
    assert {dtype for each in seen for dtype in each} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    full = train(x, objective=objective, steps=30)[1]
    assert history.last["loss"] == pytest.approx(full.last["loss"], rel=0.05)
    assert history.last["loss"] != full.last["loss"]


# -- evaluation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 22, 100])
def test_evaluate_covers_every_picture(x, batch_size):
    model = small("autoencoder").eval()
    found = evaluate(model, x, batch_size)
    with torch.no_grad():
        assert float(found.reconstruction) == pytest.approx(sum(float(model(p[None]).value) for p in x) / N, rel=1e-5)
    assert float(found.kl) == 0.0 and found.kl_per_dimension is None


def test_evaluate_samples_and_adds_up(x):
    model = small().eval()
    found = evaluate(model, x, batch_size=5, seed=3)
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        by_hand = torch.cat([model(x[i : i + 5], generator=noise).value for i in range(0, N, 5)])
        kl = model.encode(x).kl_per_dimension().mean(0)
        at_the_mean = model.decode(model.code(x)).log_prob(x).mean()
    assert len(by_hand) == N
    assert float(found.value) == pytest.approx(float(by_hand.mean()), rel=1e-5)
    assert_close(found.kl_per_dimension.float(), kl, rtol=1e-5, atol=1e-6)
    assert float(found.kl) == pytest.approx(float(kl.sum()), rel=1e-5)
    assert float(found.reconstruction) != pytest.approx(float(at_the_mean), rel=1e-4)  # an ELBO samples z
    assert float(found.value) == float(evaluate(model, x, 5, seed=3).value) != float(evaluate(model, x, 5, seed=4).value)


def test_evaluate_turns_dropout_off(x):
    model = small("autoencoder")
    model.encoder.insert(2, torch.nn.Dropout(0.5))
    model.train()
    values = [float(evaluate(model, x).value) for _ in range(2)]
    assert values[0] == values[1]


def test_elbo_of_scalars():
    terms = Elbo(torch.tensor(-3.0), torch.tensor(1.0))
    assert float(terms.value) == -4.0


# -- several processes --------------------------------------------------------------------------------------------

WORKER = """
import sys, torch
from tests.test_training import small, train, weights, SHAPE, N
x = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(0))
model, _ = train(x, small("autoencoder"), batch_size=6)
torch.save(weights(model), sys.argv[1])
"""


@pytest.mark.long
def test_two_processes_are_one(tmp_path):
    x = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(0))
    alone, _ = train(x, small("autoencoder"), batch_size=6)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = str(Path(__file__).parent.parent)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": root, "LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / str(rank))],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        error = worker.communicate(timeout=300)[1]
        assert worker.returncode == 0, error[-2000:]
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    assert_close(first, weights(alone), atol=1e-5, rtol=0)
