"""A folder of your own pictures: `train` a model on it, `blend` two pictures, `sample` new ones, with a report each.

The commands and the notebook call these three functions and nothing else. A model is a folder:

    model.safetensors      the network; written last, so where it is, the training is finished
    training.json          what is trained on what; written first, so that a stopped training can go on
    pictures.safetensors   codes and thumbnails of the pictures: what `sample` starts from and compares with
    report.html, .json     what came out
    state.safetensors      only while the training is not finished
"""

import copy
import functools
import hashlib
import itertools
import json
import math
import shlex
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from vaelab import latent, models, storage
from vaelab.aggregate import fit_mixture
from vaelab.blend import blend_point, look_curves
from vaelab.data import folder as folders
from vaelab.metrics import nearest
from vaelab.novelty import duplicates, plant_copies, resave, shrink, thumbprint
from vaelab.objectives import BetaObjective
from vaelab.report import Report, as_json, encode, replace_file
from vaelab.training import TrainingDiverged, fit, stream

SIZES = range(32, 257, 16)
FEWEST, FEW = 8, 100  # pictures: below the first there is nothing to learn, below the second little
THUMBNAIL = 64  # pixels
ENDINGS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
MOOD = 22.0  # dB: where an end comes back worse than that, a strip shows a mood and no ad
FADE = 0.1  # of the distance between the ends: a middle nearer to their cross-fade is hardly more than one
SHOWN = 11  # steps of a strip that a report has room for
SAME = 0.02  # of the range of colours: two ends nearer than that are the same to a model
AMBER, GREY = "#d9902f", "#5a6775"


class Outcome(NamedTuple):
    """What a command says in the end: a verdict and an action, the report, the files that could not be used."""

    sentence: str
    report: Path
    problems: tuple = ()


class Creatives(NamedTuple):
    """A trained model with its pictures.

    Attributes:
        folder: where it lies.   model: the VAE.   settings: training.json.
        codes: `(N, d)`.   thumbnails: `(N, 3, h, h)` uint8.   held_out: `(N,)` bool: not trained on.
        fine: how strong fine detail is in the real pictures (see `fine`), a float.
    """

    folder: Path
    model: torch.nn.Module
    settings: dict
    codes: torch.Tensor
    thumbnails: torch.Tensor
    held_out: torch.Tensor
    fine: float


class Interrupted(KeyboardInterrupt):
    """Stopped by hand; its text says what is kept and how to go on."""


def network(pictures, size):
    """The model for so many pictures of this size, as settings of `models.vae`: the one place that chooses.

    Halving goes on while sides are even and more than 4 pixels are left. Dimensions that the pictures do not pay
    for stay unused (see `latent.active_units`), so there may be more of them than needed.
    """
    levels, side = 0, size
    while side % 2 == 0 and side > 4:
        levels, side = levels + 1, side // 2
    widths = (16, 32, 64, 64, 96, 96)[:levels]
    return {"latent": 64 if pictures < FEW else 128, "channels": list(widths)}


# --- train ---------------------------------------------------------------------------------------------------------


def train(folder, out, minutes=10.0, size=64, steps=None, seed=0, say=print, stop=lambda share: False):
    """Trains a model on the pictures in `folder` into the new folder `out`: an `Outcome`.

    Called again after an interruption it goes on where it was, bit for bit; called again on a finished model it
    changes nothing.

    Args:
        minutes: about how long; turned into a number of steps by trying a few.   steps: instead of that.
        size: pixels a side, a multiple of 16 from 32 to 256.
        say: gets one sentence before it starts.   stop: asked before each step, with the share that
            is done; True ends it like Ctrl-C.
    """
    out = Path(out)
    if size not in SIZES:
        raise ValueError(f"The size is {size}: give a multiple of 16 from {SIZES[0]} to {SIZES[-1]}, such as 64.")
    if not 0 < minutes < 1e5 or (steps is not None and steps < 1):
        raise ValueError("Give minutes (or steps) above 0, and not more than 100000 minutes.")
    if not str(folder).strip():
        raise ValueError("Give the folder with your pictures.")
    settings, state = read_settings(out), out / "state.safetensors"
    try:
        pictures, data = usable_pictures(folder, size)
        test = held_out(len(pictures), seed)
        chosen = {"size": size, "seed": seed, "pictures": len(pictures), "digest": digest(pictures)}
        chosen |= {"steps": steps} if steps else {}
        check_same(settings, chosen, out)
        if settings and (out / "model.safetensors").exists():
            return finished(out)
        model = new_model(size, len(pictures), seed)
        if not settings:
            settings = {"minutes": minutes, "steps": steps or affordable(minutes, model, pictures[~test])} | chosen
            replace_file(out / "training.json", as_json(settings))  # fails now if it cannot be written
        going_on = " It goes on where it was stopped." if state.exists() else ""
        say(f"{len(pictures)} pictures, {int(test.sum())} of them held out; {settings['steps']} steps.{going_on}")
        history = run(model, pictures[~test], pictures[test], settings, state, stop)
    except KeyboardInterrupt:
        kept = "What was trained is kept" if state.exists() else "Nothing was trained yet"
        raise Interrupted(f"Stopped. {kept}: run the same command again to go on.") from None
    except TrainingDiverged as error:
        raise ValueError(f"The training ran off: take another --seed and a new folder. {error}") from error
    report = training_report(model, pictures, test, history, settings, data, folder, out)
    keep(model, pictures, test, out)
    report.write(out / "report.html")
    models.save(model, out / "model.safetensors")
    state.unlink(missing_ok=True)
    return Outcome(report.sentence, out / "report.html", tuple(problem.sentence for problem in data.problems))


def finished(out):
    """The `Outcome` of a training that was done before."""
    if not (out / "report.html").exists():
        raise FileNotFoundError(f"{out} is finished and can be used, but its report is gone: train into a new folder for one.")
    again = f"{out} is finished already, and nothing was changed: give another folder to train anew."
    return Outcome(again, out / "report.html")


def usable_pictures(folder, size):
    """The different pictures of a folder, `(N, 3, size, size)`, and the `FolderDataset` they come from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report lists the same sentences
        data = folders.load(folder, size)
    first = {}
    for i, picture in enumerate(data.images):
        first.setdefault(hashlib.sha256(picture.numpy().tobytes()).digest(), i)
    if len(first) < FEWEST:
        raise ValueError(
            f"{folder} holds {len(first)} different pictures that can be used: {FEWEST} are needed at least, and "
            f"{FEW} or more to learn a look."
        )
    data.files = [data.files[i] for i in first.values()]
    return data.images[list(first.values())], data


def held_out(n, seed):
    """Which pictures are not trained on, `(n,)` bool: one in ten, and two at least."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(stream(seed, "held out")))
    test = torch.zeros(n, dtype=torch.bool)
    test[order[: max(2, round(n / 10))]] = True
    return test


def digest(pictures):
    """A short text that changes with any pixel."""
    return hashlib.sha256((pictures * 255).round().byte().numpy().tobytes()).hexdigest()[:16]


def read_settings(out):
    """What an earlier training wrote into `out`; {} where there is none yet. Refuses a folder with other things."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: give a new folder for the model.")
    if not (out / "training.json").is_file():
        if out.exists() and any(not file.name.startswith(".") for file in out.iterdir()):
            raise ValueError(f"{out} holds other things than a model: give a new folder.")
        return {}
    try:
        settings = json.loads((out / "training.json").read_text(encoding="utf-8"))
        numbers = {name: settings[name] + 0 for name in ("minutes", "steps", "size", "seed", "pictures")}
        return numbers | {"digest": settings["digest"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out / 'training.json'} is damaged: delete the folder {out} and train again.") from error


def check_same(settings, chosen, out):
    """Refuses to go on with other pictures or settings than the training began with."""
    changed = [name for name in chosen if settings and settings[name] != chosen[name]]
    if changed:
        what = {"pictures": "number of pictures", "digest": "set of pictures"}.get(changed[0], changed[0])
        raise ValueError(
            f"The training in {out} began with another {what}: go back to that, or train into a new folder."
        )


def new_model(size, pictures, seed):
    """The untrained model, the same for the same seed, without touching anyone's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.vae((3, size, size), **network(pictures, size))


def affordable(minutes, model, pictures):
    """How many steps fit into that time: a few are tried on a copy, after two that only wake everything up."""
    trial = copy.deepcopy(model)
    fit(trial, pictures, steps=2, batch_size=32, progress=False)
    began = time.perf_counter()
    fit(trial, pictures, steps=8, batch_size=32, progress=False)
    return max(50, int(0.95 * 60 * minutes * 8 / (time.perf_counter() - began)))  # the rest: tests, states


def run(model, pictures, test, settings, state, stop):
    """The training itself, or what is left of it; its `History`."""
    steps, often = settings["steps"], 1 + int(settings["steps"] / settings["minutes"] / 3)  # about every 20 seconds
    begun = 0
    if state.exists():
        try:
            begun = storage.read(state)[1]["step"]
        except storage.StorageError as error:
            raise ValueError(f"{state} is damaged: delete it, and the training starts anew.") from error
    plan = {"steps": steps, "seed": settings["seed"], "batch_size": 32, "ema": 0.99, "transform": until(stop, jitter, begun, steps)}
    plan |= {"objective": BetaObjective(warmup=steps // 5), "validation": test, "record_every": max(1, steps // 20)}
    return fit(model, pictures, checkpoint=state, checkpoint_every=min(often, 1 + steps // 50), **plan)


def until(stop, transform, begun, steps):
    """The `transform`, which interrupts the training before its next step once `stop(share done)` is true."""
    count = itertools.count(begun)

    @functools.wraps(transform)
    def asked(batch, generator):
        if stop(next(count) / steps):
            raise KeyboardInterrupt
        return transform(batch, generator)

    return asked


def jitter(batch, generator, amount=0.06):
    """Each picture a little larger or smaller and out of place; never mirrored, for ads carry words."""
    n, device = len(batch), batch.device
    zoom, right, down = amount * (2 * torch.rand(3, n, generator=generator, device=device) - 1)
    corner = torch.zeros(n, 2, 3, device=device)
    corner[:, 0, 0] = corner[:, 1, 1] = 1 + zoom
    corner[:, 0, 2], corner[:, 1, 2] = right, down
    lattice = F.affine_grid(corner, batch.shape, align_corners=False)
    return F.grid_sample(batch, lattice, padding_mode="reflection", align_corners=False).clamp(0, 1)


def keep(model, pictures, test, out):
    """Writes what `sample` needs of the training pictures."""
    small = F.interpolate(pictures, (min(THUMBNAIL, pictures.shape[-1]),) * 2, mode="bilinear", antialias=True)
    tensors = {"codes": latent.codes(model, pictures), "held_out": test}
    tensors["thumbnails"] = (small.clamp(0, 1) * 255).round().byte()
    storage.write(out / "pictures.safetensors", tensors, {"fine": float(fine(pictures).square().mean().sqrt())})


def load(folder):
    """The finished model in `folder`: `Creatives`. Raises OSError or ValueError in one sentence."""
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no model folder {folder}: make it with `vaelab train FOLDER --out {folder}`.")
    if not (folder / "training.json").is_file():
        raise ValueError(f"{folder} is no model: give the folder that `vaelab train FOLDER --out …` made.")
    settings = read_settings(folder)
    if not (folder / "model.safetensors").exists():
        raise ValueError(f"The training in {folder} is not finished: run its `vaelab train` command again.")
    try:
        tensors, record = storage.read(folder / "pictures.safetensors")
        model = models.load(folder / "model.safetensors")
    except storage.StorageError as error:
        raise ValueError(f"{folder} is damaged: delete it and train again. {error}") from error
    fits = model.config["shape"][-1] == settings["size"] and tensors["codes"].shape[1:] == model.latent_shape
    if not fits:
        raise ValueError(f"{folder} does not hold together, its files are of different trainings: delete it and train again.")
    return Creatives(folder, model, settings, **tensors, **record)


# --- rulers --------------------------------------------------------------------------------------------------------


def round_trips(model, pictures):
    """What the model makes of pictures: encoded, decoded, `(N, 3, H, W)` in [0, 1]."""
    return torch.cat(latent.in_batches(model, pictures, model.reconstruct, 64)).clamp(0, 1)


def psnr(pictures, others):
    """Peak signal-to-noise ratio of each pair, `(N,)` dB: −10 log₁₀ of the mean squared error."""
    return -10 * (pictures - others).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def fine(pictures):
    """The fine detail of pictures: what is left when a blur over 5 pixels is taken away; the same shape."""
    return pictures - F.avg_pool2d(F.pad(pictures, [2] * 4, mode="replicate"), 5, stride=1)


def detail_kept(pictures, others):
    """Share of the fine detail of `pictures` that is right in `others`, in [0, 1]: 1 − its squared error."""
    real = fine(pictures)
    return max(0.0, 1 - float((real - fine(others)).square().sum() / real.square().sum().clamp(min=1e-12)))


def survives(decibels, detail):
    """What a round trip keeps, in words; thresholds from looking at round trips of ads and photographs."""
    if decibels < 15:
        return "Only mood and main colours survive."
    if decibels < 19:
        return "Mood, colour and rough composition survive; faces and words do not."
    if detail < 0.7:
        return "Composition and colour survive; words do not."
    return "Composition, colour and most detail survive; check words letter by letter."


def still_improving(history, numbers):
    """Whether held-out pictures became better by 0.25 dB or more over the last third of the training.

    With a fitted σ, the likelihood per colour value is −log σ and a constant: 1 dB is ln 10 / 20 nats.
    """
    curve = history.column("validation")
    before = curve[min(len(curve) - 1, 2 * len(curve) // 3)]
    return (curve[-1] - before) / numbers * 20 / math.log(10) > 0.25 and curve[-1] == max(curve)


# --- the training's report -----------------------------------------------------------------------------------------


def training_report(model, pictures, test, history, settings, data, folder, out):
    real, seen = pictures[test], pictures[~test][:100]
    trips = round_trips(model, real)
    decibels, detail = psnr(real, trips), detail_kept(real, trips)
    longer = still_improving(history, real[0].numel())
    verdict = survives(float(decibels.mean()), detail)
    if len(pictures) < FEW:
        verdict += f" With {len(pictures)} pictures, results stay close to them, and soft."
    action = "Try a blend of two of your pictures:"
    command = ["blend", *(Path(folder) / name for name in data.files[:2]), "--model", out, "--out", "strip.png"]
    if longer:
        action = "It was still getting better: train longer, into a new folder:"
        command = ["train", folder, "--out", f"{out}-longer", "--minutes", 2 * settings["minutes"]]
        command += ["--size", settings["size"]]
    columns = min(6, len(real))
    known = float(psnr(seen, round_trips(model, seen)).mean())
    active = latent.active_units(model, pictures)
    return Report(
        title=f"A model of {len(pictures)} pictures from {Path(folder).resolve().name}",
        verdict=verdict,
        picture=sheet(torch.cat([real[:columns], trips[:columns]]), columns, max(160, settings["size"])),
        alt=f"{columns} pictures in the upper row, and below each what the model makes of it.",
        caption="Above, pictures the model never saw; below, the same pictures through the model.",
        action=action,
        command=shlex.join(["vaelab", *map(str, command)]),
        numbers={
            "psnr": ("Fidelity on held-out pictures", float(decibels.mean()), "{:.1f} dB PSNR"),
            "psnr_worst": ("The worst of them", float(decibels.min()), "{:.1f} dB"),
            "psnr_known": ("On its own pictures (far more: learnt by heart)", known, "{:.1f} dB"),
            "detail_kept": ("Fine detail kept", detail, "{:.0%}"),
            "held_out": ("Held out, chosen by chance", len(real), f"{{}} of {len(pictures)} pictures"),
            "size": ("Pixels a side", settings["size"], "{}"),
            "steps": ("Steps of training", settings["steps"], "{:,}"),
            "active": ("Dimensions in use", int(active.sum()), f"{{}} of {len(active)}"),
            "sigma": ("Typical error of a colour value", model.likelihood.sigma, "{:.3f} of 1"),
            "validation": history.column("validation"), "still_improving": longer, "seed": settings["seed"],
        },
        notes={"Left out or changed": [problem.sentence for problem in data.problems] + data.notes},
    )  # fmt: skip


# --- pictures ------------------------------------------------------------------------------------------------------


def to_image(picture, side=None):
    """A picture `(3, H, W)` in [0, 1] as a PIL image, scaled smoothly to `side` pixels a side."""
    from PIL import Image

    pixels = (picture.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    return image if side in (None, image.width) else image.resize((side, side), Image.Resampling.LANCZOS)


def sheet(pictures, columns, side, marked=()):
    """Pictures in reading order on white, `side` pixels each, with thin gaps; a frame round those `marked`."""
    from PIL import Image, ImageDraw

    gap = max(2, side // 24)
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        left, top = (i % columns) * (side + gap), (i // columns) * (side + gap)
        page.paste(to_image(picture, side), (left, top))
        if i in marked:
            box = (left, top, left + side - 1, top + side - 1)
            ImageDraw.Draw(page).rectangle(box, outline=AMBER, width=max(3, gap))
    return page


def shown_steps(steps):
    """The steps, counted from 1, that are shown where all would be too small to see: 11 at most, with both ends."""
    return sorted({round(step) for step in torch.linspace(1, steps, min(steps, SHOWN)).tolist()})


def numbered(strip, steps, point):
    """The strip over the numbers of its `steps`; a bar from `point.low` to `point.high`, a dot at the balance."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    side = strip.height
    scale = side / 128
    page = Image.new("RGB", (strip.width, side + round(52 * scale)), "white")
    page.paste(strip, (0, 0))
    draw = ImageDraw.Draw(page)
    font = ImageFont.truetype(str(Path(folders.__file__).parent / "fonts" / "geometric.otf"), round(20 * scale))

    def centre(step):
        return float(np.interp(step, steps, np.linspace(side / 2, strip.width - side / 2, len(steps))))

    for step in steps:
        draw.text((centre(step), side + 34 * scale), str(step), fill=GREY, font=font, anchor="mm")
    if point.found:
        y, radius = side + 13 * scale, 6 * scale
        draw.line((centre(point.low), y, centre(point.high), y), fill=AMBER, width=round(4 * scale))
        x = centre(point.step)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=AMBER)
    return page


def check_out(out, inputs=()):
    """The picture file to write, checked: a PNG or JPEG, no folder, none of the pictures that are read."""
    out = Path(out)
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: give the name of a picture file, such as {out / 'strip.png'}.")
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"{out} must end in .png, .jpg or .jpeg: that decides what kind of picture is written.")
    if any(out.resolve() == Path(file).resolve() for file in inputs):
        raise ValueError(f"{out} is one of your own pictures and would be lost: give another name.")
    if (out.parent / "training.json").exists():
        raise ValueError(f"{out} would lie among the model's own files: give a name outside {out.parent}.")
    others = [file for file in (out, out.with_suffix(".html"), out.with_suffix(".json")) if file.exists()]
    if others and not made_here(out.with_suffix(".json")):
        raise ValueError(f"{others[0]} exists already and was not made by vaelab: give another name.")
    return out


def made_here(record):
    """Whether a JSON file is a report's own."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))["made_by"] == "vaelab"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_both(image, report, out):
    """Writes the picture, and the report beside it."""
    replace_file(out, encode(image, ENDINGS[out.suffix.lower()]))
    return Outcome(report.sentence, report.write(out.with_suffix(".html")))


# --- blend ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def blend(a, b, model, out, steps=9, seed=0):
    """Writes a strip of `steps` pictures from `a` to `b` through the model's latent space: an `Outcome`.

    Args:
        a, b: picture files of any size.   model: a folder made by `train`.   out: .png or .jpg; a report beside it.
    """
    out = check_out(out, (a, b))
    if not 3 <= steps <= 33:
        raise ValueError(f"A strip of {steps} steps makes no sense: give 3 to 33.")
    trained = load(model)
    ends, notes = zip(*(read_square(file, trained.settings["size"]) for file in (a, b)), strict=True)
    ends = torch.stack(ends)
    path = latent.lerp(*trained.model.code(ends), torch.linspace(0, 1, steps))
    pictures = trained.model.decode(path).mean.clamp(0, 1)
    strip = sheet(pictures, steps, max(128, trained.settings["size"]))
    report = blend_report(trained, ends, pictures, [Path(a).name, Path(b).name], [*notes[0], *notes[1]], seed)
    return write_both(strip, report, out)


def read_square(file, size):
    """A picture file as `(3, size, size)`, and notes on what was changed."""
    from vaelab.data.pictures import read_picture, square

    notes = set()
    image = read_picture(file, draft=2 * size, notes=notes)
    if abs(image.width - image.height) > 1:
        notes.add("Only its centre square was taken")
    pixels = torch.frombuffer(bytearray(square(image, size).tobytes()), dtype=torch.uint8)
    picture = pixels.reshape(size, size, 3).permute(2, 0, 1).float() / 255
    return picture, [f"{Path(file).name}: {note}." for note in sorted(notes)]


def blend_report(trained, ends, pictures, names, notes, seed):
    steps, shown = len(pictures), shown_steps(len(pictures))
    part = f" Here are {len(shown)} of {steps} steps." if len(shown) < steps else ""
    strip = sheet(pictures[[step - 1 for step in shown]], len(shown), max(128, trained.settings["size"]))
    trips = round_trips(trained.model, ends)
    decibels = psnr(ends, trips).tolist()
    curves = look_curves(pictures, pictures[0], pictures[-1], seed)
    point = blend_point(curves.consistency, curves.freshness)
    middle = trained.model.decode(trained.model.code(ends).mean(0, keepdim=True)).mean.clamp(0, 1)
    apart = distance(*trips)
    beyond = distance(middle[0], trips.mean(0)) / max(apart, 1e-9)
    verdict, action = "The model sees hardly any difference between the two.", "Choose two that differ more, or train longer."
    if point.found and apart > SAME:
        step, low, high = (round(value) for value in point[:3])
        verdict = f"Balance at step {step} of {steps}" + (f" ({low} to {high})." if low < high else ".")
        action = f"Look at step {step} first, beside both originals."
        if min(decibels) < MOOD:
            verdict += " The strip is a mood, not an ad."
            action = f"Give step {step} to a designer as a mood, beside both originals."
        if beyond < FADE:
            verdict += " It is hardly more than a cross-fade."
    numbers = {
        "balance": ("Balance (90 of 100 re-measurements)", str(point), "{}"),
        "psnr_first": (f"Round trip of {names[0]}", decibels[0], "{:.1f} dB PSNR"),
        "psnr_last": (f"Round trip of {names[1]}", decibels[1], "{:.1f} dB PSNR"),
        "beyond_cross_fade": ("Beyond a cross-fade", beyond, "{:.0%} of the distance between the two ends"),
        "step": point.step, "low": point.low, "high": point.high, "steps": steps, "seed": seed, "files": names,
        "consistency": curves.consistency.mean(0).tolist(), "freshness": curves.freshness.mean(0).tolist(),
    }  # fmt: skip
    for name, curve in curves.criteria.items():
        numbers[name] = (f"Balance by {name} alone", str(blend_point(*curve)), "{}")
    return Report(
        title=f"From {names[0]} to {names[1]} in {steps} steps",
        verdict=verdict,
        picture=numbered(strip, shown, point),
        alt=f"A strip of {steps} pictures that goes from {names[0]} to {names[1]}; {point}.",
        caption="Dot: where the strip is as near to its one end as to its other. Bar: how sure that is." + part,
        action=action,
        numbers=numbers,
        notes={"Changed": notes},
    )


def distance(picture, other):
    """Root mean square difference of colour values, a float."""
    return float((picture - other).square().mean().sqrt())


# --- sample --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample(model, out, n=64, origin="codes", seed=0):
    """Writes a sheet of `n` new pictures: an `Outcome`.

    Args:
        model: a folder made by `train`.   out: .png or .jpg; a report beside it.
        origin: "codes": near the codes of the training pictures; "prior": from N(0, I).
    """
    out = check_out(out)
    if not 1 <= n <= 400:
        raise ValueError(f"A sheet of {n} pictures makes no sense: give 1 to 400.")
    trained = load(model)
    generator = torch.Generator().manual_seed(stream(seed, "sample"))
    codes = models.choose("origin", origin, {"codes": near_codes, "prior": from_prior})(trained, n, generator)
    pictures = trained.model.decode(codes).mean.clamp(0, 1)
    columns = math.ceil(math.sqrt(n))
    side = max(trained.settings["size"], min(256, 1600 // columns))
    return write_both(sheet(pictures, columns, side), sample_report(trained, pictures, columns, side, origin, seed), out)


def near_codes(trained, n, generator):
    """`n` codes from where the training pictures' codes lie: a mixture, or with few pictures one shrunk Gaussian.

    A mixture fitted to fewer than ten pictures a dimension would put its components on single pictures.
    """
    from sklearn.covariance import LedoitWolf

    codes = trained.codes[~trained.held_out]
    if len(codes) >= 10 * codes.shape[1]:
        return fit_mixture(codes).sample(n, generator)
    fitted = LedoitWolf().fit(codes.double().numpy())
    factor = torch.linalg.cholesky(torch.from_numpy(fitted.covariance_)).float()
    return codes.mean(0) + torch.randn(n, codes.shape[1], generator=generator) @ factor.T


def from_prior(trained, n, generator):
    return trained.model.prior.sample(n, generator)


def different(prints, thumbnails):
    """The different motifs of a folder, and how near a picture saved anew or scaled stays to itself.

    Args:
        prints: thumbprints of all pictures, `(N, d)`.   thumbnails: the pictures, `(N, 3, h, h)` in [0, 1].

    Returns:
        Indices of one picture of each motif, a list; and the distance, a float.
    """
    again, sources = plant_copies(thumbnails, min(100, len(prints)), edits=(resave, shrink))
    near = float((thumbprint(again) - prints[sources]).norm(dim=1).quantile(0.95))
    apart, motifs = torch.cdist(prints, prints), []
    for i in range(len(prints)):
        if not motifs or apart[i, motifs].min() > near:
            motifs.append(i)
    return motifs, near


def copy_threshold(prints, floor=0.0):
    """How near a picture must be to a training picture to be suspected, and the share of new ones that are too.

    Each motif of the folder in turn is the new one among all others, so that a small folder will do: 5 in 100 are
    suspected, or of fewer than 40 the nearest two. The share holds on average; `novelty.CopyTest` promises it with
    95 % confidence, for which it takes 59 held-out pictures.

    Args:
        prints: thumbprints of different motifs, `(N, d)`.   floor: what is as near as that is suspected in any case.
    """
    if len(prints) < 2:
        return floor, 0.0
    alone = torch.cdist(prints, prints).fill_diagonal_(math.inf).amin(1).sort().values
    threshold = max(floor, float(alone[max(0, int(0.05 * (len(prints) + 1)) - 1)]))
    return threshold, int((alone <= threshold).sum()) / (len(prints) + 1)


def sample_report(trained, pictures, columns, side, origin, seed):
    n, thumbnails = len(pictures), trained.thumbnails.float() / 255
    prints, known = thumbprint(pictures), thumbprint(thumbnails)
    motifs, near = different(known, thumbnails)
    threshold, alarms = copy_threshold(known[motifs], near)
    copies = (nearest(prints, known[~trained.held_out]).distance <= threshold).nonzero().flatten().tolist()
    twins = duplicates(prints, threshold)[:, 1].unique().tolist()
    new = n - len({*copies, *twins})
    sharp = float(fine(pictures).square().mean().sqrt()) / trained.fine
    verdict = f"{new} of {n} are new: {len(copies)} suspected copies, {len(twins)} repetitions."
    verdict += f" Sharpness is {sharp:.0%} of your pictures'" + (": moods, not ads." if sharp < 0.5 else ".")
    if len(motifs) < FEWEST:
        verdict = f"Too few different motifs among your pictures ({len(motifs)}): nothing on this sheet can be called new."
    framed = " Framed: very near a training picture." if copies else ""
    action = "Use it as a mood board; another seed makes another sheet:"
    if copies:
        action = "Compare the framed ones with your own pictures before anyone sees them, or draw others:"
    return Report(
        title=f"{n} pictures sampled from the model {trained.folder.resolve().name}",
        verdict=verdict,
        picture=sheet(pictures, columns, side, copies),
        alt=f"A sheet of {n} sampled pictures; {len(copies)} suspected copies are framed.",
        caption=f"{n} new addresses, decoded.{framed}",
        action=action,
        command=shlex.join(["vaelab", "sample", "--model", str(trained.folder), "--n", str(n), "--from", origin,
                            "--seed", str(seed + 1), "--out", f"sheet-{seed + 1}.png"]),
        numbers={
            "new": ("New", new, f"{{}} of {n}"),
            "suspected": ("Suspected copies", len(copies), "{}"),
            "motifs": ("Different motifs among your pictures", len(motifs), "{}"),
            "false_alarms": ("Of truly new pictures, suspected too", alarms, "about {:.0%}"),
            "repeated": ("Repetitions in the sheet", len(twins), "{}"),
            "sharpness": ("Fine detail, beside your pictures", sharp, "{:.0%}"),
            "origin": ("Drawn from", origin, "{}"),
            "seed": ("Seed", seed, "{}"),
            "copies": copies, "repetitions": twins, "threshold": threshold,
        },
    )  # fmt: skip
