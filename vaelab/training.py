"""`fit`: the training loop, on accelerate. One file, readable in a minute; resumes bit-exactly from its own state."""

import contextlib
import hashlib
import math
import os
import sys
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path

import torch

from vaelab import storage
from vaelab.objectives import BetaObjective, Elbo


class TrainingDiverged(ArithmeticError):
    """The loss or its gradient stopped being a finite number; the model keeps the weights from before that step."""


@dataclass
class History:
    """What training looked like: one record every `record_every` steps, averaged over them (nats per picture)."""

    records: list = field(default_factory=list)

    def column(self, name):
        """The values of one quantity ("step", "loss", "reconstruction", "kl", "validation"), where recorded."""
        return [record[name] for record in self.records if name in record]

    @property
    def last(self):
        return self.records[-1]


def adamw(parameters, learning_rate):
    """What `fit` steps by unless told otherwise (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-4, fused=True)


def fit(
    model,
    pictures,
    *,
    steps=None,
    epochs=None,
    batch_size=64,
    learning_rate=2e-3,
    objective=None,
    optimizer=adamw,
    transform=None,
    ema=0.0,
    bf16=False,
    seed=0,
    validation=None,
    record_every=50,
    checkpoint=None,
    checkpoint_every=500,
    progress=True,
):
    """Trains `model` in place (learning rate falling along a cosine) and returns its `History`.

    The work is done on the GPU where there is one; afterwards the model is back where it was.

    Args:
        model: anything whose `forward(x, generator=…)` gives an `Elbo`.
        pictures: `(N, C, H, W)` float in [0, 1], or uint8 (converted batch by batch).
        steps, epochs: how long; exactly one of the two.
        objective: `Elbo, step -> loss`; default `BetaObjective()`, the negative ELBO.
        optimizer: `parameters, learning_rate -> torch.optim.Optimizer`, such as `muon.Muon`.
        transform: `(batch, generator) -> batch`, such as a fresh binarisation for every batch.
        ema: if above 0, the model ends with the exponential moving average of its weights at this decay.
        bf16: forward pass in bfloat16 (the distributions compute in float32 all the same).
        validation: pictures whose ELBO is recorded too, without warm-up or dropout.
        checkpoint: a file for the state; if it is there already, training goes on from it, bit-exactly on the
            same machine and thread count.

    Raises:
        TrainingDiverged: at the first loss or gradient that is not finite; the model is then as before that step.
    """
    from accelerate import Accelerator

    if (steps is None) == (epochs is None):
        raise ValueError("Say how long to train: give either steps or epochs, and not both.")
    counts = (epochs if steps is None else steps, batch_size, record_every, checkpoint_every)
    if min(counts) < 1 or not (0 <= ema < 1 and learning_rate > 0):
        raise ValueError(
            f"These settings make no training: steps={steps}, epochs={epochs}, batch_size={batch_size}, "
            f"record_every={record_every}, checkpoint_every={checkpoint_every}, ema={ema}, "
            f"learning_rate={learning_rate}; counts begin at 1, and ema lies in [0, 1)."
        )
    check_pictures(pictures)
    objective = BetaObjective() if objective is None else objective
    batches = Batches(pictures, batch_size, seed)
    steps = steps if steps is not None else epochs * batches.per_epoch

    accelerator, home = Accelerator(), next(model.parameters()).device
    model.to(memory_format=torch.channels_last)  # what convolutions on a CPU like best
    device = accelerator.device
    ready = accelerator.prepare(model.to(device))  # accelerate moves a model only the first time that it meets it
    parameters = list(model.parameters())
    stepper = optimizer(parameters, learning_rate)
    rates = [group["lr"] for group in stepper.param_groups]
    average = {name: p.detach().clone() for name, p in model.named_parameters()} if ema else {}
    noise = torch.Generator(device)
    # torch.manual_seed seeds every kind of device, which where there is none costs more than a small network's step
    seed_dropout = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
    history, sums, start = History(), Sums(), 0

    plan = {"model": model, "pictures": pictures, "objective": objective, "transform": transform}
    plan = {name: describe(thing) for name, thing in plan.items()}
    plan |= {"steps": steps, "batch_size": batches.size, "learning_rate": learning_rate, "ema": ema, "bf16": bf16}
    plan |= {"optimizer": optimizer.__name__, "seed": seed, "record_every": record_every, "processes": accelerator.num_processes}
    if checkpoint and Path(checkpoint).exists():
        start = restore(checkpoint, plan, model, stepper, average, history, sums)

    def store(step):
        if checkpoint and accelerator.is_main_process:
            record = {"plan": plan, "step": step, "history": history.records, "sums": vars(sums)}
            preserve(checkpoint, record, model, stepper, average)

    model.train()
    bar = progress_bar(steps, start, progress and accelerator.is_main_process)
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with contextlib.closing(bar), forked, contextlib.ExitStack() as at_last:
        at_last.callback(model.to, home)
        for step in range(start, steps):
            # All that is random is a pure function of seed, step and process: resuming needs no random state.
            noise.manual_seed(stream(seed, "noise", step, accelerator.process_index))
            seed_dropout(stream(seed, "dropout", step, accelerator.process_index))
            share = batches(step)[accelerator.process_index :: accelerator.num_processes]
            x = as_floats(pictures[share], device)
            x = transform(x, noise) if transform else x
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                terms = ready(x, generator=noise)
            loss = objective(terms, step)
            stepper.zero_grad()
            loss.backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            figures = torch.stack((loss, terms.reconstruction.mean(), terms.kl.mean(), norm)).tolist()
            if not math.isfinite(figures[0] + figures[3]):
                store(step)
                raise TrainingDiverged(
                    f"The loss at step {step} is {figures[0]:g}, its gradient {figures[3]:g} long; the model "
                    f"keeps its weights from before that step. Try a learning rate below {learning_rate:g}."
                )
            for group, rate in zip(stepper.param_groups, rates, strict=True):
                group["lr"] = rate * cosine(step, steps)
            stepper.step()
            update_average(average, parameters, ema, step)
            sums.add(*figures[:3])
            if (step + 1) % record_every == 0 or step + 1 == steps:
                history.records.append(sums.record(step + 1, model, validation, batch_size, seed))
                bar.set_postfix_str(f"loss {history.last['loss']:.1f}", refresh=False)
            bar.update()
            if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                store(step + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(average.get(name, parameter))
    model.eval()
    return history


class Batches:
    """The order of the pictures: a new shuffle every epoch, a pure function of seed and step."""

    def __init__(self, pictures, size, seed):
        self.n, self.size, self.seed = len(pictures), min(size, len(pictures)), seed
        self.per_epoch = self.n // self.size
        self.epoch, self.order = None, None

    def __call__(self, step):
        """Indices of the batch of this step, `(size,)`; the rest of an epoch that fills no batch is left out."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffle = torch.Generator().manual_seed(stream(self.seed, "order", epoch))
            self.epoch, self.order = epoch, torch.randperm(self.n, generator=shuffle)
        return self.order[position * self.size : (position + 1) * self.size]


@dataclass
class Sums:
    """Running sums of what a record shows."""

    n: int = 0
    loss: float = 0.0
    reconstruction: float = 0.0
    kl: float = 0.0

    def add(self, loss, reconstruction, kl):
        self.n += 1
        self.loss += loss
        self.reconstruction += reconstruction
        self.kl += kl

    def record(self, step, model, validation, batch_size, seed):
        """One line of the history; the sums start anew."""
        record = {"step": step} | {name: value / self.n for name, value in vars(self).items() if name != "n"}
        self.__init__()
        if validation is not None:
            record["validation"] = float(evaluate(model, validation, batch_size, seed).value)
            model.train()
        return record


@torch.no_grad()
def evaluate(model, pictures, batch_size=256, seed=0):
    """The mean `Elbo` over *all* pictures (sums over pictures, divided once), with sampled z; scalars in nats."""
    check_pictures(pictures)
    model.eval()
    device = next(model.parameters()).device
    noise = torch.Generator(device).manual_seed(seed)
    total, dimensions = torch.zeros(2, device=device, dtype=torch.float64), None
    for batch in pictures.split(batch_size):
        terms = model(as_floats(batch, device), generator=noise)
        total += torch.stack([terms.reconstruction.double().sum(), terms.kl.double().sum()])
        if terms.kl_per_dimension is not None:
            part = terms.kl_per_dimension.double().sum(0)
            dimensions = part if dimensions is None else dimensions + part
    n = len(pictures)
    return Elbo(total[0] / n, total[1] / n, None if dimensions is None else dimensions / n)


def check_pictures(pictures):
    """Refuses what is no set of pictures, in one sentence, before it fails somewhere deep."""
    if not torch.is_tensor(pictures) or len(pictures) == 0:
        raise ValueError("There are no pictures: give a tensor (N, C, H, W) with N of at least 1.")
    if pictures.dtype == torch.uint8:
        return
    if not pictures.is_floating_point():
        raise ValueError(f"Pictures of type {pictures.dtype} are not understood; give uint8, or float in [0, 1].")
    low, high = (float(value) for value in pictures.aminmax())
    if pictures.ndim == 4 and not (low > -1e-4 and high < 1 + 1e-4):  # also where a pixel is NaN
        raise ValueError(
            f"Pictures must lie in [0, 1], and these go from {low:g} to {high:g}; divide by 255, or shift and scale."
        )


def stream(seed, *place):
    """A seed for the random numbers of one place in a run: other places get unrelated numbers."""
    return int.from_bytes(hashlib.sha256(repr((seed, *place)).encode()).digest()[:4])


def as_floats(pictures, device):
    """Pictures on the device as float in [0, 1]; channels last, which convolutions on a CPU like best."""
    floats = pictures.to(device).float() / 255 if pictures.dtype == torch.uint8 else pictures.to(device)
    return floats.contiguous(memory_format=torch.channels_last) if floats.ndim == 4 else floats


def cosine(step, steps):
    """The learning rate's share at `step`: from 1 down to 2 %."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def update_average(average, parameters, decay, step):
    """Moves the EMA towards the weights; its decay warms up, so that the start is forgotten."""
    if average:
        decay = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), parameters, 1 - decay)


def progress_bar(steps, start, shown):
    """A bar with the time left, on a terminal or in a notebook; VAELAB_PROGRESS=0 turns it off."""
    shown = shown and os.environ.get("VAELAB_PROGRESS") != "0"
    if shown and "ipykernel" in sys.modules:
        from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    return tqdm(total=steps, initial=start, leave=False, disable=not shown, unit="step")


def describe(thing):
    """A short text that differs where a resumed run would: parameters of a model, a sample of pictures, a name."""
    if isinstance(thing, torch.nn.Module):
        thing = [(name, tuple(p.shape), p.requires_grad) for name, p in thing.named_parameters()]
    elif torch.is_tensor(thing):
        sample = thing[:: max(1, len(thing) // 64)].cpu().contiguous().numpy().tobytes()
        thing = (tuple(thing.shape), hashlib.sha256(sample).hexdigest())
    elif callable(thing) and not is_dataclass(thing):
        return getattr(thing, "__qualname__", type(thing).__qualname__)
    return hashlib.sha256(repr(thing).encode()).hexdigest()[:16]


def preserve(path, record, model, optimizer, average):
    """Writes the whole state of a run: weights, optimiser, EMA, and `record` (position, history)."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in entries.items()}
    storage.write(path, tensors, record)


def restore(path, plan, model, optimizer, average, history, sums):
    """Puts the state at `path` back into everything given; returns the step to go on with."""
    tensors, record = storage.read(path)
    stored = record.get("plan", {})
    changed = [name for name, value in plan.items() if stored.get(name) != value]
    if changed:
        raise ValueError(
            f"{path} belongs to a run with another {' and '.join(changed)}; delete it to start anew, or give the "
            "settings of that run."
        )
    model.load_state_dict(part(tensors, "model/"))
    for name, value in part(tensors, "average/").items():
        average[name].copy_(value)
    state = {}
    for key, value in part(tensors, "optimizer/").items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, entries in optimizer.state.items():  # fused steps need their memory laid out as the weight's
        like = {name: value for name, value in entries.items() if value.shape == parameter.shape}
        entries |= {name: torch.empty_like(parameter).copy_(value) for name, value in like.items() if value.ndim}
    history.records, sums.__dict__ = record["history"], record["sums"]
    return record["step"]


def part(tensors, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
