"""What a VAE cannot keep of your creatives: every picture through it and back, measured region by region.

`vaelab audit FOLDER --out REPORT` calls `audit`. A report is a folder that opens from a disk, without network or script:

    index.html, index-2.html …   the verdict in words, then the pictures, worst first
    audit.json                   all numbers, and with what they were made
    pictures/NAME/index.html     one picture: before, after, where they differ, its worst regions at full size
    pictures/NAME/picture.json   its numbers; written last, so where it is, the picture is done

A generator built on this VAE learns from what comes back, and none that we tried did better (chapter 6): the ceiling.
"""

import hashlib
import json
import math
import re
import string
import time
from collections import namedtuple
from html import escape
from pathlib import Path

import numpy as np
import torch

from vaelab import __version__, fidelity, legibility, report
from vaelab.autoencoder_kl import NotFinite
from vaelab.creatives import Interrupted, Outcome, made_here
from vaelab.data import folder as folders
from vaelab.report import as_json, encode, replace_file
from vaelab.training import progress_bar

STYLE = report.STYLE + Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
PARTS = re.findall(r"<!-- ([\w-]+) -->\n([^\0]*?)\n*(?=<!-- |\Z)", Path(__file__).with_suffix(".html").read_text("utf-8"))
PARTS = dict(PARTS)
SMALLEST = 32  # pixels a side: below that there are no regions to tell apart
# In places of the latent, so that memory is about the same for every VAE: 96 places are 768 pixels at factor 8.
WHOLE, TILE, OVERLAP = 128, 96, 16
BLOCK = 2**20  # pixels of the strips in which a large picture is measured
LARGEST = 300_000  # bytes of a picture file in the report
CROP = 90_000  # pixels of a crop: that many fit into a PNG of the largest size whatever they show
PREVIEW, THUMBNAIL = 1200, 320  # pixels of the longer side
ERROR = 0.2  # of the range of colours: the error that is painted darkest
SHOWN = 6  # regions with a crop of their own
PER_PAGE = 100  # pictures
SMALL = 28  # pixels: a line of text that is lower than that, ascenders included, is called small
FIGURES = ("psnr", "detail", "colour", "read", "legible")  # of a `RegionScore`


# All thresholds that turn numbers into words: where "changed" begins and where "lost" begins, of the field of a
# `RegionScore` that decides; and what hurts an ad most comes first. Text: one wrong letter in twenty is a typo in every
# other line; three in ten, and the line cannot be guessed any more. Detail is the share of the fine structure that
# comes back right: over 0.8 one has to look for the difference at full size, under 0.5 more is wrong than right. Colour
# is CIEDE2000 of the mean colour: 1 is about what a trained eye sees side by side, over 2 a client who knows the colour
# objects, over 5 everyone sees another colour.
Kind = namedtuple("Kind", "noun measure changed lost said")
KINDS = {
    "text": Kind("text", "legible", 0.95, 0.7, ("stays readable", "is misread", "is lost")),
    "face": Kind("faces", "detail", 0.8, 0.5, ("keep their detail", "lose some detail", "lose most of their detail")),
    "edges": Kind("hard edges", "detail", 0.8, 0.5, ("stay sharp", "are softened", "are lost")),
    "texture": Kind("fine texture", "detail", 0.8, 0.5, ("is kept", "is softened", "is lost")),
    "flat": Kind("flat colours", "colour", 2, 5, ("are safe", "drift a little", "drift visibly")),
}


@torch.no_grad()
def audit(folder, out, vae=None, ocr=True, say=print):
    """Measures what a VAE keeps of the pictures in `folder`, and writes the report into the folder `out`.

    Called again it goes on: only pictures are done that are not done yet, or whose file, VAE or settings are others.

    Args:
        vae: a name, folder or file for `pretrained.load` (default: the VAE that ships with vaelab).
        ocr: whether words are read before and after.   say: gets a few sentences before it starts.

    Returns:
        `creatives.Outcome`: the verdict, `index.html`, and the files that could not be used.
    """
    folder, out = Path(folder), Path(out)
    check_out(out)
    names, problems, passed = listed(folder, out)
    model, about = chosen(vae)
    reader = new_reader(say) if ocr else None
    settings = {"ocr": reader is not None, "whole": WHOLE, "tile": TILE, "overlap": OVERLAP}
    marks = {name: mark(folder / name, about["sha256"], settings) for name in names}
    done = {name: record for name in names if (record := read_done(out, name, marks[name]))}
    replace_file(out / "audit.json", as_json({"made_by": "vaelab", "finished": False}))  # fails now if it cannot
    say(f"{len(names)} pictures through {about['name']}" + (f", {len(done)} of them done before." if done else "."))
    try:
        with progress_bar(len(names), len(done), True) as bar:
            bar.unit = "picture"
            for name in names:
                if name not in done:
                    done |= one(folder, name, out, about["name"], model, reader, marks[name], problems)
                    bar.update()
    except KeyboardInterrupt:
        kept = f"Stopped. {len(done)} of {len(names)} pictures are done and kept in {out}"
        raise Interrupted(f"{kept}: run the same command again to go on.") from None
    if not done:
        own = f"The folder {folder} holds no pictures but those of a report: give the folder with yours."
        raise ValueError(folders._nothing_usable(folder, problems) if problems else own)
    return write_report(folder, out, list(done.values()), problems, passed, about, settings)


# --- what is asked for ---------------------------------------------------------------------------------------------


def check_out(out):
    """Refuses to write where other things lie than a report."""
    if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()) and not made_here(out / "audit.json"):
        raise ValueError(f"{out} holds other things than a report of vaelab: give a new folder.")


def listed(folder, out):
    """Names of the pictures, problems, and names of files that are no pictures; what lies in `out` is none of them."""

    def outside(name):
        return out.resolve() not in (folder / name).resolve().parents

    names, problems = folders.list_pictures(folder)
    known = {*names, *(problem.file for problem in problems)}
    names = [name for name in names if outside(name)]
    return names, problems, [name for name in sorted(folders.walk(folder, [])) if name not in known and outside(name)]


def chosen(vae):
    """The VAE, and what the report says about it."""
    from vaelab import pretrained

    model = pretrained.load(vae or pretrained.DEFAULT)
    if model.config.get("in_channels", 3) != 3:
        raise ValueError(f"The VAE {model.source.name} does not take colour pictures: give one with 3 channels.")
    about = {"shipped": model.source.name == pretrained.DEFAULT, "factor": model.factor}
    about["megabytes"] = sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 1e6
    return model, model.source._asdict() | about | {"latent_channels": model.config["latent_channels"]}


def new_reader(say):
    """The reader of words, or None where it is not installed; says what it costs."""
    try:
        reader = legibility.Reader()
    except ImportError:
        say("Words are not read, for rapidocr is not installed; install it with: pip install 'vaelab[ocr]'")
        return None
    say("Reading words takes about 1 s a picture; --no-ocr leaves it out.")
    return reader


def mark(file, vae, settings):
    """A text that changes with the bytes of a file, the VAE, the settings and the version of vaelab."""
    try:
        with open(file, "rb") as stream:
            own = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""  # reading it as a picture will say why
    return hashlib.sha256(json.dumps([own, vae, settings, __version__], sort_keys=True).encode()).hexdigest()


def place(out, name):
    """The folder of one picture: plain letters, for file names may hold anything, and a hash, for two may look alike."""
    plain = re.sub("[^a-z0-9]+", "-", Path(name).stem.lower())[:40].strip("-") or "picture"
    return out / "pictures" / f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def read_done(out, name, expected):
    """The record of a picture that was done before with the same mark, or None."""
    try:
        record = json.loads((place(out, name) / "picture.json").read_text(encoding="utf-8"))
        return record if expected and record["mark"] == expected and record["seconds"] >= 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- one picture ---------------------------------------------------------------------------------------------------


def one(folder, name, out, vae, model, reader, its_mark, problems):
    """Measures one picture and writes its page: `{name: record}`, or {} and one problem more."""
    from vaelab.data.pictures import PictureError, read_picture

    notes = set()
    try:
        image = read_picture(folder / name, notes=notes)
        if min(image.size) < SMALLEST:
            raise PictureError(name, f"is too small to be measured: {SMALLEST} pixels a side are needed.")
    except PictureError as error:
        problems.append(folders.Problem(name, f"{name} {error.reason}"))
        return {}
    x = folders._to_tensor([np.array(image)])
    start = time.perf_counter()
    y, tiled = round_trip(model, x)
    seconds = time.perf_counter() - start
    found = [r for r in fidelity.regions(x[0], reader) if r.kind != "text" or sum(map(str.isalnum, r.text)) > 1]
    scores = fidelity.score_regions(x[0], y[0], found, reader)  # without specks that were taken for a letter
    regions = [score.region._asdict() | {name: getattr(score, name) for name in FIGURES} for score in scores]
    record = {"file": name, "size": image.size, "tiled": tiled, "notes": sorted(notes), "mark": its_mark, "vae": vae, "seconds": seconds}
    record |= {"regions": regions, "vaelab": __version__, "made_by": "vaelab"} | compare(x, y)
    record = json.loads(as_json(record))  # as another run would read it: what is no number is None
    record["regions"] = sorted(map(judged, record["regions"]), key=badness, reverse=True)
    write_picture(place(out, name), x, y, record)
    replace_file(place(out, name) / "picture.json", as_json(record))
    return {name: record}


def round_trip(model, x):
    """A picture `(1, 3, H, W)` through the VAE and back, in [0, 1]; and whether that was done in tiles."""
    tiled = x.shape[-2] * x.shape[-1] > (WHOLE * model.factor) ** 2
    tiles = {"tile": TILE * model.factor, "overlap": OVERLAP * model.factor} if tiled else {}
    try:
        return model.reconstruct(x, **tiles).clamp(0, 1), tiled
    except NotFinite as error:
        raise ValueError(str(error)) from error


def compare(x, y):
    """Figures of the whole picture: PSNR, and the means over strips (so that memory stays small) of the others."""
    strips = min(math.ceil(x[0, 0].numel() / BLOCK), x.shape[-2] // SMALLEST)
    pairs = list(zip(x.tensor_split(strips, -2), y.tensor_split(strips, -2), strict=True))
    measures = fidelity.ssim, fidelity.colour_shift, fidelity.detail_kept
    means = {f.__name__: torch.cat([f(a, b) for a, b in pairs]).nanmean(0).tolist() for f in measures}
    return {"psnr": float(fidelity.psnr(x, y))} | means


def judged(region):
    """The record of a region, with the words for it."""
    kind = KINDS[region["kind"]]
    value, sign = region[kind.measure], 1 if kind.changed < kind.lost else -1
    loss = None if value is None else sign * value  # the larger, the worse
    state = 0 if loss is None else (loss > sign * kind.changed) + (loss > sign * kind.lost)
    return region | {"state": state, "label": ("kept", "changed", "lost")[state], "loss": loss}


def badness(region):
    """Sorts regions: the worse state, then the kind that hurts more, then the figure itself, then the height."""
    loss = -math.inf if region["loss"] is None else region["loss"]
    return region["state"], -list(KINDS).index(region["kind"]), loss, region["box"][2]


# --- pictures of a picture -----------------------------------------------------------------------------------------


def write_picture(here, x, y, record):
    """Everything that a picture's page shows, and the page."""
    from PIL import Image, ImageOps

    before, after = (Image.fromarray((p[0] * 255).round().byte().permute(1, 2, 0).numpy()) for p in (x, y))
    errors = (fidelity.error_map(x, y)[0] / ERROR * 255).clamp(0, 255).byte().numpy()
    errors = ImageOps.colorize(Image.fromarray(errors), "white", "#6d0f2a", "#e08a2b")
    files = ("thumbnail", before, THUMBNAIL), ("before", before, PREVIEW), ("after", after, PREVIEW), ("errors", errors, PREVIEW)
    for name, image, side in files:
        replace_file(here / f"{name}.jpg", small_jpeg(image, side))
    for i, region in enumerate(record["regions"][:SHOWN]):
        box = region["crop"] = crop_box(region["box"], before.size)
        for name, image in (("before", before), ("after", after)):
            replace_file(here / f"region-{i + 1}-{name}.png", encode(image.crop(box), "png"))
    replace_file(here / "index.html", picture_page(record))


def small_jpeg(image, side):
    """A picture as a JPEG of at most `LARGEST` bytes, its longer side at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    data = encode(small, "jpeg")
    return data if len(data) <= LARGEST else small_jpeg(image, side * 4 // 5)


def crop_box(box, size):
    """A region with a little around it, as (left, top, right, bottom); of a large one the middle, `CROP` pixels."""
    top, left, height, width = box
    margin = max(8, min(height, width) // 4)
    high = min(height + 2 * margin, size[1], 300)
    wide = min(width + 2 * margin, size[0], CROP // high)
    x = min(max(0, left + (width - wide) // 2), size[0] - wide)
    y = min(max(0, top + (height - high) // 2), size[1] - high)
    return [x, y, x + wide, y + high]


# --- pages ---------------------------------------------------------------------------------------------------------


class Html(str):
    """Text that is HTML already: everything else is escaped."""


class Filler(string.Formatter):
    """Fills a part of audit.html: texts are escaped here, once; what is no number becomes a dash."""

    def format_field(self, value, spec):
        return "–" if value is None else value if isinstance(value, Html) else escape(format(value, spec))


def fill(part, **values):
    return Html(Filler().format(PARTS[part], **values))


def page(title, body, up=""):
    return fill("page", title=title, body=body, up=up).encode("utf-8", "replace")


def every(part, items):
    return Html("\n".join(fill(part, **item) for item in items))


def spoken(region):
    """A region with its sentence, as HTML."""
    share = None if region["detail"] is None else max(0.0, region["detail"])
    seen = f"“{region['read']}”" if region["read"] else "nothing"
    region = region | {"sentence": fill(f"say-{region['kind']}", share=share, seen=seen, **region)}
    return region | {"said": fill("said", **region)}


def picture_page(record):
    size, regions = record["size"], [*map(spoken, record["regions"])]
    shown = [region | {"number": i, "crops": crops(region | {"number": i})} for i, region in enumerate(regions[:SHOWN], 1)]
    sides = [("top", size[1]), ("left", size[0]), ("height", size[1]), ("width", size[0])]
    boxes = [{side: 100 * v / whole for (side, whole), v in zip(sides, r["box"], strict=True)} | r for r in shown]
    parts = {"lines": every("line", [{"text": f"{note}."} for note in record["notes"]]), "boxes": every("box", boxes)}
    parts |= {"places": every("place", shown) or fill("nothing"), "rows": every("row", regions)}
    octaves = ", ".join("–" if share is None else f"{share:.0%}" for share in record["detail_kept"])
    body = fill("picture", octaves=octaves, **record, **parts)
    return page(record["file"], body, "../../")


def crops(region, up=""):
    """The crops of one region before and after; small ones are shown larger, in whole pixels."""
    wide = region["crop"][2] - region["crop"][0]
    parts = {"noun": KINDS[region["kind"]].noun, "width": wide * max(1, min(4, 320 // wide)), "number": 1}
    return fill("crops", up=up, **parts | spoken(region))


def card(record, out):
    """One picture in the list: small, with its worst region before and after."""
    up = f"pictures/{place(out, record['file']).name}/"
    worst = [spoken(region) | {"crops": crops(region, up)} for region in record["regions"][:1]]
    return {"file": record["file"], "up": up, "worst": every("worst", worst) or fill("nothing")}


# --- the whole report ----------------------------------------------------------------------------------------------


def verdict(records, ocr):
    """What is kept and what is lost, in words, the most painful first; and what to do about it."""
    clauses, advice = [] if ocr else ["text was not looked at"], None
    for name, kind in KINDS.items():
        found = [[r for r in record["regions"] if r["kind"] == name] for record in records]
        worst = [max(r["state"] for r in regions) for regions in found if regions]
        if not worst:
            continue
        top = max(worst)
        advice = advice or (fill(f"do-{name}") if top == 2 else None)
        heights = [r["box"][2] for regions in found for r in regions if r["state"] == top]
        small = "small " if name == "text" and top and sum(h < SMALL for h in heights) >= 0.9 * len(heights) else ""
        many = f"{worst.count(top)} of {len(worst)}"
        if worst.count(top) == len(worst):
            many = "both" if len(worst) == 2 else f"all {len(worst)}"
        many = f" in {many} pictures" if top and len(worst) > 1 else ""
        clauses.append(f"{small}{kind.noun} {kind.said[top]}{many}")
    whole = "; ".join(clauses) or "nothing was found that could be judged"
    return whole[0].upper() + whole[1:] + ".", advice or fill("do-nothing")


def write_report(folder, out, records, problems, passed, about, settings):
    """The list of pictures and the JSON: an `Outcome`."""
    records = sorted(records, key=lambda record: [*map(badness, record["regions"][:1])], reverse=True)
    words, action = verdict(records, settings["ocr"])
    whole = {"made_by": "vaelab", "vaelab": __version__, "finished": True, "folder": folder.resolve().name, "vae": about}
    megapixels = sum(math.prod(record["size"]) for record in records) / 1e6
    whole["seconds_per_megapixel"] = sum(record["seconds"] for record in records) / megapixels  # encoded and decoded
    likeness = [record["psnr"] for record in records if record["psnr"] is not None]  # None: nothing changed
    whole["mean_psnr"] = float(np.mean(likeness)) if likeness else None
    whole |= {"settings": settings, "verdict": words, "action": action, "passed_over": passed, "pictures": records}
    whole |= {"thresholds": {name: kind[1:4] for name, kind in KINDS.items()}, "left_out": [p._asdict() for p in problems]}
    replace_file(out / "style.css", STYLE.encode())
    write_lists(out, whole)
    replace_file(out / "audit.json", as_json(whole))
    return Outcome(f"{words} {action}", out / "index.html", tuple(problem.sentence for problem in problems))


def write_lists(out, whole):
    """index.html and, for more than `PER_PAGE` pictures, index-2.html and so on."""
    starts = range(0, len(whole["pictures"]), PER_PAGE)
    names = ["index.html", *(f"index-{i}.html" for i in range(2, len(starts) + 1))]
    links = every("link", [{"href": name, "text": i} for i, name in enumerate(names, 1)]) if len(names) > 1 else ""
    shared = {"count": len(whole["pictures"]), "links": links, "notes": notes(whole), "whole": WHOLE * whole["vae"]["factor"]}
    shared |= {"whose": fill("ours") if whole["vae"]["shipped"] else ""}
    for start, name in zip(starts, names, strict=True):
        cards = every("card", [card(record, out) for record in whole["pictures"][start : start + PER_PAGE]])
        body = fill("index", cards=cards, **whole | whole["vae"] | shared)
        replace_file(out / name, page(f"Audit of {whole['folder']}", body))
    for old in set(out.glob("index-*.html")) - {out / name for name in names}:
        old.unlink()


def notes(whole):
    """What was left out or changed, as a fold; nothing where there was nothing."""
    lines = [problem["sentence"] for problem in whole["left_out"]]
    for note in sorted({note for record in whole["pictures"] for note in record["notes"]}):
        lines.append(folders._note([r["file"] for r in whole["pictures"] if note in r["notes"]], note))
    lines += [f"{name} is no picture, and was passed over." for name in whole["passed_over"][:20]]
    return fill("notes", lines=every("line", [{"text": line} for line in lines])) if lines else ""
