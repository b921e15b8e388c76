"""Do made ads help to tell which of *your* ads do well? A small experiment that cannot leak, and the made ads.

`vaelab augment ADS LABELS.csv --label high --n 600 --out OUT` calls `augment`. First the ads are split, three
times; then every arm is run inside every split; and the made ads of the first split are kept. What lies in OUT then:

    index.html, report.json   the verdict in words, the table of all arms, and what this cannot say
    pictures/0001.png …       the made ads: those the classifier of the first split was trained with
    provenance.csv            of each: its source, noise, seed, and the nearest training picture
    split.csv                 which ads the first split trains on; the made ads know no others
    sheet.png                 some ads, their round trips, and what was made of them
    experiment.json           every finished arm, written at once: an interrupted experiment goes on there
    state-0/ …                only while a split is not finished: its VAE, so that this too goes on
"""

import csv
import hashlib
import io
import json
import math
import re
import shlex
import shutil
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from vaelab import audit, augmentation, creatives, intervals, novelty
from vaelab.augmentation import Arm, Experiment, Labelled
from vaelab.classifiers import all_positive_f1
from vaelab.creatives import Interrupted, Outcome
from vaelab.data import folder as folders
from vaelab.metrics import nearest
from vaelab.report import as_json, encode, replace_file
from vaelab.training import progress_bar

PARTS = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"<!-- ([\w-]+) -->\n([^\0]*?)\n*(?=<!-- |\Z)", PARTS))  # as audit.html is written
# Chosen so that 1,100 ads at 64 pixels take three minutes on two processor cores; chapter 9 trains its VAE for
# 1,700 steps at 32 pixels. The classifier sees all ads at 32 pixels, as there: at 64 it would cost twice as much.
VAE_STEPS, STEPS, JUDGED = 700, 300, 32
SPLITS = 3
FEWEST, MOST = 20, 9999  # ads of either class; made ads (their file names have four digits)
LONGEST = 100_000  # steps of a VAE
SHOWN = 8  # ads on the sheet
FLIP, BOTH = "flip+shift+duplicates", "both classes"
OTHERS = ("class weights", "duplicates", FLIP, BOTH)  # what one could do instead


# --- what is asked for ---------------------------------------------------------------------------------------------


def augment(
    folder, labels, label, out, n=600, noise=0.5, size=64, seed=0, vae_steps=VAE_STEPS, say=print,
    stop=lambda share: False,
):  # fmt: skip
    """Measures whether made ads help to tell ads labelled `label` from the others, and makes `n` of them: an `Outcome`.

    Called again after an interruption it goes on after the last arm that was finished, and within a VAE's training.

    Args:
        folder: your ads.   labels: a CSV `file,label[,group]`; ads of one group stay on one side of every split.
        out: a new folder outside `folder`; or the same again, to go on.
        n: how many ads to make; as many are added by every arm that adds some.
        noise: how far from their sources, in units of the latent, in which all ads have a spread of about 1.
        size: pixels a side of made ads, a multiple of 16 from 32 to 256.   seed: other splits, other made ads.
        vae_steps: how long each of the three VAEs is trained.
        say: gets one sentence before it starts.
        stop: is told after every training what share is done, and says whether to stop.

    Raises:
        OSError, ValueError: in one sentence, for all that cannot be used.
        Interrupted: stopped; what is finished is kept.
    """
    folder, out = Path(folder), Path(out)
    check(n, noise, size, seed, vae_steps)
    work = read_work(out, folder)
    ads, about = read_ads(folder, labels, label, size)
    least = math.ceil(2 * len(ads) / min(about["wanted"], len(ads) - about["wanted"]))
    if n < least:  # the arm that makes ads of both labels would lack one
        raise ValueError(f"{n} made ads are too few to be compared with any: give --n {least} or more.")
    seeds = [SPLITS * seed + i for i in range(SPLITS)]
    splits = [augmentation.split(ads.labels, ads.groups, seed=s) for s in seeds]  # before anything is made
    settings = {"label": about["label"], "n": n, "noise": noise, "size": size, "seed": seed, "steps": STEPS}
    settings |= {"vae_steps": vae_steps, "ads": fingerprint(ads)}
    check_same(work, settings, out)
    work = work or {"made_by": "vaelab", "settings": settings, "runs": []}
    total = SPLITS * len(arms(noise))
    keep(work, out)  # fails now if it cannot be written
    done = f", {len(work['runs'])} of them done before" if work["runs"] else ""
    say(f"{len(ads)} ads, {about['wanted']} labelled {about['label']!r}; {total} trainings on {SPLITS} splits{done}.")
    try:
        run(ads, splits, seeds, settings, work, out, stop)
    except KeyboardInterrupt:
        kept = f"Stopped. {len(work['runs'])} of {total} trainings are done and kept in {out}"
        raise Interrupted(f"{kept}: run the same command again to go on.") from None
    again = ["vaelab", "augment", folder, labels, "--label", about["label"], "--n", n, "--noise", noise, "--size", size]
    again += ["--vae-steps", vae_steps, "--seed", seed + 1, "--out", f"{out}-{seed + 1}"]
    return write_report(work, ads, splits[0], about, shlex.join(map(str, again)), out)


def check(n, noise, size, seed, vae_steps):
    """Refuses numbers that make no sense."""
    if not 1 <= n <= MOST:
        raise ValueError(f"{n} made ads make no sense: give --n from 1 to {MOST}.")
    if not 0 <= noise <= 10:
        raise ValueError(f"A noise of {noise:g} makes no sense: give 0 (round trips) to 10, such as 0.5.")
    if size not in creatives.SIZES:
        raise ValueError(f"The size is {size}: give a multiple of 16 from 32 to 256, such as 64.")
    if seed < 0:
        raise ValueError(f"The seed is {seed}: give 0 or more.")
    if not 1 <= vae_steps <= LONGEST:
        raise ValueError(f"{vae_steps} steps for a VAE make no sense: give --vae-steps from 1 to {LONGEST}, such as 700.")


def read_work(out, folder):
    """What an earlier call left in `out`, or {}. Refuses a folder with other things, or among the ads."""
    if folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"{out} lies inside {folder}, so made ads would count as yours: give a folder outside it.")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: give a new folder.")
    file = out / "experiment.json"
    if not file.is_file():
        if out.exists() and any(not other.name.startswith(".") for other in out.iterdir()):
            raise ValueError(f"{out} holds other things than made ads of vaelab: give a new folder.")
        return {}
    try:
        work = json.loads(file.read_text(encoding="utf-8"))
        intervals.table(work["runs"], measure="pr_auc")
        return work | {"settings": {**work["settings"]}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged: delete the folder {out} and run the command again.") from error


def check_same(work, settings, out):
    """Refuses to go on with other ads or settings than the experiment began with."""
    changed = [name for name, value in settings.items() if work and work["settings"].get(name) != value]
    if changed:
        what = {"ads": "set of ads, labels or groups", "n": "--n", "vae_steps": "--vae-steps"}.get(changed[0], changed[0])
        raise ValueError(f"The experiment in {out} began with another {what}: go back to that, or give a new folder.")


def read_ads(folder, labels, label, size):
    """The ads as `Labelled` (1: the wanted label), and what to say of them: a dict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report lists the same sentences
        data = folders.load(folder, size, labels)
    counts = Counter(data.classes[i] for i in data.labels.tolist())
    known = {name.casefold(): name for name in data.classes}
    if label.casefold() not in known:
        there = ", ".join(f"{name!r} ({count})" for name, count in counts.most_common())
        raise ValueError(f"No ad is labelled {label!r}: the labels in {Path(labels).name} are {there}.")
    label = known[label.casefold()]
    wanted = data.labels == data.classes.index(label)
    few = min(counts[label], len(data) - counts[label])
    if few < FEWEST:
        found = f"{counts[label]} ads are labelled {label!r} and {len(data) - counts[label]} are not"
        raise ValueError(f"{found}: {FEWEST} of each are needed at least.")
    groups, twins = joined(data.groups or data.files, data.images)
    notes = [note for note in data.notes if not note.startswith("The same as another")]  # done here, told here
    if twins:
        notes.append(f"The same as another to the last pixel, and therefore in one group with it: {twins} of the ads.")
    about = {"label": label, "wanted": counts[label], "problems": data.problems, "notes": notes}
    about |= {"groups": len(groups.unique()), "folder": folder.resolve().name}
    return Labelled(data.images, wanted, groups, tuple(data.files)), about


def joined(names, pictures):
    """Groups `(N,)` in which pictures that share a name, or every pixel, share a number; and how many are a twin."""
    parent = list(range(len(names)))

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    first, prints = {}, [hashlib.sha256(print_).digest() for print_ in augmentation.fingerprints(pictures)]
    for i, keys in enumerate(zip(names, prints, strict=True)):
        for key in keys:  # a name is a text and a print is bytes: they cannot be confused
            parent[root(i)] = root(first.setdefault(key, i))
    return torch.tensor([root(i) for i in range(len(names))]), len(prints) - len({*prints})


def fingerprint(ads):
    """A short text that changes with any picture, name, label or group."""
    whole = creatives.digest(ads.pictures), ads.files, ads.labels.tolist(), ads.groups.tolist()
    return hashlib.sha256(repr(whole).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# --- the experiment ------------------------------------------------------------------------------------------------


def shrink(pictures):
    """Pictures as the classifier sees them, `(N, 3, 32, 32)`."""
    return F.interpolate(pictures, (JUDGED, JUDGED), mode="bilinear", antialias=True).clamp(0, 1)


def judged_small(context):
    """The domain of every arm; see `augmentation.Arm`."""
    return shrink


def small(make, train, context):
    """What `make` makes, as the classifier sees it: decoded pictures pass no domain."""
    batch = make(train, context)
    return replace(batch, pictures=shrink(batch.pictures))


def arms(noise):
    """The arms of the experiment by name, in the order in which they are told."""
    made, both = partial(augmentation.around, noise=noise), partial(augmentation.both_classes, noise=noise)
    known = [augmentation.ARMS[name] for name in ("nothing", "threshold", "a/a", "class weights", "duplicates", FLIP)]
    known += [Arm(made_arm(noise), partial(small, made)), Arm(BOTH, partial(small, both))]
    return {arm.name: replace(arm, domain=judged_small) for arm in known}


def made_arm(noise):
    return f"noise {noise:g}"


def run(ads, splits, seeds, settings, work, out, stop):
    """Runs what is left of the experiment; keeps every finished arm, and the made ads of the first split."""
    todo, done = arms(settings["noise"]), {(record["seed"], record["arm"]) for record in work["runs"]}
    with progress_bar(len(seeds) * len(todo), len(done), True) as bar:
        bar.unit = "training"
        for seed, parts in zip(seeds, splits, strict=True):
            left = [arm for name, arm in todo.items() if (seed, name) not in done]
            make = seed == seeds[0] and not all_there(work, settings["n"], out)
            state = out / f"state-{seed}"
            if not left and not make:
                shutil.rmtree(state, ignore_errors=True)
                continue
            lengths = {"steps": settings["steps"], "vae_steps": settings["vae_steps"]}
            experiment = Experiment(*(ads[part] for part in parts), seed, states=state, **lengths)
            experiment.context.n = settings["n"]  # what is judged is what is handed out
            if make:
                work["made"] = hand_out(experiment, settings, out)
                keep(work, out)
            for arm in left:
                work["runs"].append(experiment.run(arm).as_record())
                keep(work, out)
                bar.update()
                if stop(len(work["runs"]) / (len(seeds) * len(todo))):
                    raise KeyboardInterrupt
            shutil.rmtree(state, ignore_errors=True)


def keep(work, out):
    replace_file(out / "experiment.json", as_json(work))


def all_there(work, n, out):
    """Whether the made ads were all written, and are there still."""
    files = [out / "pictures" / name for name in names(n)] + [out / "sheet.png", out / "provenance.csv"]
    return "made" in work and all(file.is_file() for file in files)


def names(n):
    return [f"{i:04}.png" for i in range(1, n + 1)]


# --- the made ads --------------------------------------------------------------------------------------------------


def hand_out(experiment, settings, out):
    """Writes the made ads with their provenance and a sheet of some; what the report says of them, a dict."""
    train, context = experiment.train, experiment.context
    batch = experiment.checked(augmentation.around(train, context, settings["noise"]))
    known = novelty.thumbprint(train.pictures)
    index = nearest(novelty.thumbprint(batch.pictures), known).index.tolist()
    rows = []
    for name, row, near in zip(names(len(batch)), batch.provenance(), index, strict=True):
        source = train.files[row["source"][0]]
        rows.append([name, source, row["noise"], row["seed"], round(row["nearest"], 4), train.files[near]])
    for name, picture in zip(names(len(batch)), batch.pictures, strict=True):
        replace_file(out / "pictures" / name, encode(creatives.to_image(picture), "png"))
    head = ["file", "source", "noise", "seed", "nearest_distance", "nearest_file"]
    replace_file(out / "provenance.csv", as_csv(head, rows))
    replace_file(out / "sheet.png", encode(some(batch, train, context), "png"))
    motifs, same = creatives.different(known, shrink(train.pictures))
    threshold, _ = creatives.copy_threshold(known[motifs], same)
    return {
        "seed": batch.seed, "distance": float(batch.nearest.median()), "threshold": threshold,
        "near": int((batch.nearest <= threshold).sum()), "own": sum(row[1] == row[5] for row in rows),
        "sources": len({row[1] for row in rows}),
    }  # fmt: skip


def as_csv(head, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue().encode("utf-8", "replace")


def some(batch, train, context):
    """A row of ads, below it their round trips, below that what was made of them: a PIL image."""
    from PIL import Image, ImageDraw, ImageFont

    first = {}
    for i, source in enumerate(batch.source[:, 0].tolist()):
        first.setdefault(source, i)
    made = list(first.values())[:SHOWN]
    sources = train.pictures[batch.source[made, 0]]
    side = max(128, sources.shape[-1])
    grid = creatives.sheet(torch.cat([sources, context.trip(sources), batch.pictures[made]]), len(made), side)
    page = Image.new("RGB", (grid.width + side, grid.height), "white")
    page.paste(grid, (side, 0))
    font = ImageFont.truetype(str(Path(folders.__file__).parent / "fonts" / "geometric.otf"), side // 6)
    for row, words in enumerate(("your ad", "round trip", "made")):
        height = (row + 0.5) * grid.height / 3
        ImageDraw.Draw(page).text((side - side // 8, height), words, fill=creatives.GREY, font=font, anchor="rm")
    return page


# --- the report ----------------------------------------------------------------------------------------------------


def fill(part, **values):
    """A part of augment.html with its values, which are escaped; see `audit.Filler`."""
    return audit.Html(audit.Filler().format(PARTS[part], **values))


def key(arm):
    """What an arm is called in augment.html."""
    return "made" if arm.startswith("noise ") else re.sub(r"\W+", "-", arm)


def gains(runs):
    """What every arm scored, over the splits: arm -> {"f1", "pr_auc", "f1_gain", "pr_gain"}.

    The first two are means; the gains `metrics.Interval`s of the paired differences to "nothing" (None for itself).
    F1 is that at a threshold of 0.5, for the arm "threshold" at the tuned one: as each would be used.
    """
    f1, pr = (intervals.table(runs, measure=name, simultaneous=False) for name in ("f1", "pr_auc"))
    means = [{"f1": a["mean"], "pr_auc": b["mean"]} for a, b in zip(f1, pr, strict=True)]
    more = [{"f1_gain": a.get("difference"), "pr_gain": b.get("difference")} for a, b in zip(f1, pr, strict=True)]
    return {a["arm"]: mean | gain for a, mean, gain in zip(f1, means, more, strict=True)}


def luck(runs):
    """The largest change of PR-AUC in any split when the same training is done again with other random numbers."""
    scores = {(record["seed"], record["arm"]): record["scores"]["pr_auc"] for record in runs}
    return max(abs(score - scores[seed, "nothing"]) for (seed, arm), score in scores.items() if arm == "a/a")


def verdict(table, made, chance):
    """What the made ads bring, and what to do about it: two sentences.

    A gain is more than luck where its interval lies above 0 and its mean above what luck alone did in any split. Where
    it lies below 0, the made ads did harm, however little: a warning needs less than a promise.

    Args:
        table: of `gains`.   made: name of the arm of the made ads.   chance: of `luck`.
    """
    gain, f1, tuned = table[made]["pr_gain"], table[made]["f1_gain"].value, table["threshold"]["f1_gain"].value
    others = {name: table[name]["pr_gain"] for name in OTHERS if table[name]["pr_gain"].value >= gain.value}
    real = {name: other for name, other in (others | {made: gain}).items() if other.low > 0 and other.value > chance}
    best = max(set(real) - {made} or others, key=lambda name: others[name].value, default=None)
    if made in real:
        says, does = ("as-much", key(best)) if best else ("helps", "helps")
    elif real:
        says, does = "harm-better" if gain.high < 0 else "better", key(best)
    elif gain.high < 0:
        says, does = "harm", "harm"
    else:
        says = does = "threshold" if round(tuned, 2) > 0 and round(tuned, 2) >= round(f1, 2) else "nothing"
    called, most = (fill(f"called-{key(best)}"), f"{others[best].value:+.3f}") if best else ("", "")
    shown = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    loss = f"{-gain.high:.{3 if gain.high <= -0.0005 else 6}f}"  # never "at least 0.000"
    told = {"gain": shown, "called": called, "best": most, "loss": loss, "tuned": tuned, "f1": f1}
    return fill(f"says-{says}", **told), fill(f"do-{does}")


def write_report(work, ads, parts, about, again, out):
    """Writes index.html, report.json and split.csv of a finished experiment: an `Outcome`."""
    settings, share = work["settings"], about["wanted"] / len(ads)
    table, chance = gains(work["runs"]), luck(work["runs"])
    words, action = verdict(table, made_arm(settings["noise"]), chance)
    split = {name: [ads.files[i] for i in index.tolist()] for name, index in zip(parts._fields, parts, strict=True)}
    rows = [[file, name] for name, files in split.items() for file in files]
    replace_file(out / "split.csv", as_csv(["file", "part"], rows))
    lines = [problem.sentence for problem in about["problems"]] + about["notes"]
    whole = {"made_by": "vaelab", "verdict": words, "action": action, "command": again, "settings": settings}
    whole |= {"luck": chance, "made": work["made"], "folder": about["folder"], "left_out_or_changed": lines}
    whole |= {"share": share, "splits": SPLITS, "all_called": all_positive_f1(share)}
    whole["seeds"] = sorted({record["seed"] for record in work["runs"]})
    rows = [as_row(arm, table[arm], settings) for arm in arms(settings["noise"])]
    notes = audit.fill("notes", lines=audit.every("line", [{"text": line} for line in lines])) if lines else ""
    shown = {"rows": audit.Html("\n".join(rows)), "notes": notes, "count": len(ads), "sizes": [len(p) for p in parts]}
    shown |= {"seeds": ", ".join(map(str, whole["seeds"])), "groups": about["groups"], "judged": JUDGED}
    body = fill("index", **whole | shown)
    replace_file(out / "style.css", audit.STYLE.encode())
    replace_file(out / "index.html", audit.page(f"Made ads from {about['folder']}", body))
    records = [{"arm": arm} | row for arm, row in table.items()]  # JSON makes lists of intervals
    replace_file(out / "report.json", as_json(whole | {"split": split, "arms": records}))
    return Outcome(f"{words} {action}", out / "index.html", tuple(problem.sentence for problem in about["problems"]))


def as_row(arm, row, settings):
    """A row of the table, as HTML."""
    spans = {name: fill("gain", gain=row[name]) if row[name] else None for name in ("f1_gain", "pr_gain")}
    words = fill(f"arm-{key(arm)}", n=settings["n"], label=settings["label"])
    return fill("row", **row | spans | {"words": words})
