"""What the VAE stages that ship do to small print: `python -m benchmarks.small_print` makes book/data/small-print.json.

Text recognition takes a second a picture, so chapter 6 shows these results and does a part of them again. What is
there already is not measured again; what belongs to another version of a stage's weights is.
"""

import json
import sys
from functools import cache, partial
from pathlib import Path

import torch

from vaelab import diffusion, fidelity, legibility, pretrained
from vaelab.storage import replace_file
from vaelab.training import fit

RESULTS = Path(__file__).parents[1] / "book" / "data" / "small-print.json"
COMMAND = "python -m benchmarks.small_print"
STAGES = ("kl-f4-c16", "kl-f4-c4", "kl-f8-c16", "kl-f8-c4", "kl-f8-c4-sharp")
HEIGHTS = {4: range(5, 17), 8: range(8, 27), None: range(5, 27)}  # of capitals in pixels, by the stage's factor
LEVEL, LARGEST = 0.95, 40
OTHER_FACES = ("condensed", "serif")
# Three more lists of words, as long as that of `legibility`: how much a limit depends on what is written.
OTHER_WORDS = (
    ("WINTER DEAL", "COLD BREWED", "SHOP ONLINE", "OLD RECIPE", "HALF PRICE", "GROWN LOCAL", "TAKE 5 PAY 4", "ONLY 18 CENT"),
    ("SPRING FAIR", "PURE JUICE", "CALL US NOW", "LIGHT ROAST", "GREAT VALUE", "BAKED TODAY", "GET 6 FOR 5", "NET WT 70 G"),
    ("AUTUMN DAYS", "RICH AROMA", "VISIT US", "NEW LABEL", "SAVE MONEY", "FROM NORWAY", "2 IN A PACK", "BEST BY 0391"),
)
CAPTIONS = ("ORDER TODAY", "BEST PRICE", "340 G", "31 AUGUST")  # to tell typefaces by

# Labels for the second stage: what each says is also its prompt. LETTERS is the height of the capitals, chosen where
# the round trip of SAMPLED is hard to read and not hopeless.
LABELS = (
    ("ONLY 3.49", "PER JAR"), ("ENDS", "31 AUGUST"), ("STOCKS", "LIMITED"), ("CONTAINS", "NUTS"),
    ("SERVES 4", "340 G"), ("USE BY", "JUNE 27"), ("BUY 3", "GET 2"), ("18 PLUS", "ONLY"),
    ("NO ADDED", "SUGAR"), ("MADE IN", "BERGEN"), ("FROM 1.99", "A LITRE"), ("KEEP COOL", "AND DRY"),
    ("SHAKE", "WELL"), ("24 KCAL", "PER 100 G"), ("TERMS", "APPLY"), ("SAVE 20 P", "TODAY"),
)  # fmt: skip
SAMPLED, LETTERS, SHAPE, COUNT, STEPS, SEED = "kl-f8-c4", 15, (64, 128), 32, 800, 0
SETTINGS = [("ddim", 30, 1), ("ddim", 10, 1), ("ddpm", 100, 1), ("dpm", 20, 1), ("ddim", 30, 2), ("ddim", 30, 4)]
STRENGTHS = (0.0, 0.3, 0.6)


@cache
def reader():
    return legibility.Reader()


def read(picture):
    return " ".join(word.text for word in reader().read(picture))


@cache
def stage(name):
    return pretrained.load(name)


@torch.no_grad()
def trip(name, pictures):
    """The round trip of `(N, 3, H, W)` through a stage, clamped; `name` None: untouched."""
    if name is None:
        return pictures
    return torch.cat([stage(name).reconstruct(x[None]) for x in pictures]).clamp(0, 1)


def share_read(name, height, typeface="geometric", words=legibility.WORDS):
    """Share of the characters of a letter sheet that are read after the round trip."""
    sheet = legibility.letter_sheet([height], words, typeface)[0]
    return legibility.character_accuracy(" ".join(sheet.words), read(trip(name, sheet.picture[None])[0]))


def heights(name):
    return HEIGHTS[stage(name).factor if name else None]


def curve(name):
    """Height -> share read, for every height."""
    return {str(height): round(share_read(name, height), 4) for height in heights(name)}


def first_read(shares):
    """The height from which on `LEVEL` of the characters are read, by a curve."""
    below = [int(height) for height, share in shares.items() if share < LEVEL]
    return max(below) + 1 if below else min(map(int, shares))


def limit(name, typeface="geometric", words=legibility.WORDS):
    """The height at which reading breaks down: from that of the stage's curve up until it is read, then down."""
    height = first_read(stored()[f"curve {name}"]["value"])
    while height < LARGEST and share_read(name, height, typeface, words) < LEVEL:
        height += 1
    while height > heights(name)[0] and share_read(name, height - 1, typeface, words) >= LEVEL:
        height -= 1
    return height


def limits(name):
    """The height at which reading breaks down, for each of four lists of words."""
    return [limit(name, words=words) for words in (legibility.WORDS, *OTHER_WORDS)]


def typefaces(name):
    """Height -> share of the eight typefaces recognised, over four captions."""
    shares = {}
    for height in (6, 8, 10, 12, 16, 20, 24):
        right = [typeface == legibility.recognise_typeface(trip(name, padded(text, height, typeface))[0], text, height)
                 for typeface in legibility.TYPEFACES for text in CAPTIONS]  # fmt: skip
        shares[str(height)] = sum(right) / len(right)
    return shares


def padded(text, height, typeface):
    """A caption with its margin, as a batch of one, whose sides are multiples of 8."""
    picture = legibility.lettering([text], height, typeface)
    high, wide = picture.shape[1:]
    return torch.nn.functional.pad(picture[None], (0, -wide % 8, 0, -high % 8), mode="replicate")


def labels(count=16):
    """`count` labels in turn: pictures `(N, 3, 64, 128)` and their places in `LABELS`."""
    which = torch.arange(count) % len(LABELS)
    drawn = [legibility.lettering(lines, LETTERS, side=max(SHAPE))[:, : SHAPE[0]] for lines in LABELS]
    return torch.stack(drawn)[which], which


def letters_read(pictures, which):
    """Mean share of the characters read on labels; sixteen of them, well apart, are read as one picture."""
    shares, (high, wide) = [], SHAPE
    for batch, places in zip(pictures.clamp(0, 1).split(16), which.split(16), strict=True):
        apart = torch.nn.functional.pad(batch, (0, wide, 0, 0), mode="replicate")  # no line runs on into the next label
        sheet = apart.unflatten(0, (8, 2)).permute(2, 0, 3, 1, 4).reshape(3, 8 * high, 4 * wide)
        words = reader().read(sheet)
        for i, place in enumerate(places.tolist()):
            box = (i // 2 * high, i % 2 * 2 * wide, high, 2 * wide)
            shares.append(legibility.character_accuracy(" ".join(LABELS[place]), fidelity.text_in(box, words)))
    return round(sum(shares) / len(shares), 4)


def labels_read(name):
    """Letters read on the labels after the round trip."""
    pictures, which = labels()
    return letters_read(trip(name, pictures), which)


def second_stage(folder=RESULTS.parent):
    """A diffusion model that learns the labels' latents by heart, told what each label says."""
    pictures, which = labels()
    vae = stage(SAMPLED)
    with torch.no_grad():
        z = vae.code(pictures)
    mean, std = float(z.mean()), float(z.std())
    vae.config |= {"shift_factor": mean, "scaling_factor": 1 / std, "latents_mean": None, "latents_std": None}
    torch.manual_seed(SEED)
    vocabulary = {"text": [" ".join(lines) for lines in LABELS]}
    model = diffusion.Diffusion(tuple(z.shape[1:]), (32, 48, 64), vocabulary=vocabulary)
    state = folder / ".small-print.state"
    fit(model, diffusion.rows(vae.normalise(z), which[:, None] + 1), steps=STEPS, batch_size=16, ema=0.99, seed=SEED,
        checkpoint=state, checkpoint_every=250, progress=False)  # fmt: skip
    state.unlink(missing_ok=True)
    return model.eval()


def sampling(name):
    """Letters read on labels as a trained second stage paints them."""
    pictures, which = labels(COUNT)
    model, vae, words = second_stage(), stage(name), which[:, None] + 1
    found = {"letters": LETTERS, "drawn": {}, "painted over": {}}
    for sampler, steps, guidance in SETTINGS:
        generator = torch.Generator().manual_seed(SEED)
        made = diffusion.paint(vae, model, len(words), words=words, generator=generator, sampler=sampler, steps=steps,
                               guidance=guidance)  # fmt: skip
        found["drawn"][f"{sampler}, {steps} steps, guidance {guidance}"] = letters_read(made, which)
    for strength in STRENGTHS:
        made = diffusion.image_to_image(vae, model, pictures, strength, words=words, steps=30,
                                        generator=torch.Generator().manual_seed(SEED))  # fmt: skip
        found["painted over"][str(strength)] = letters_read(made, which)
    return found


def best_address(name, steps=80):
    """Sixteen labels at addresses that are searched for, by Adam on the squared error, and not looked up."""
    pictures, which = labels()
    vae = stage(name).requires_grad_(False)
    z = vae.code(pictures).clone().requires_grad_()
    optimizer = torch.optim.Adam([z], 0.05 * float(z.detach().std()))
    for _ in range(steps):
        optimizer.zero_grad()
        (vae.paint(z) - pictures).square().mean((1, 2, 3)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        there, looked_up = vae.paint(z).clamp(0, 1), trip(name, pictures)
    return {
        way: {"psnr": round(float(fidelity.psnr(pictures, x).mean()), 2), "read": letters_read(x, which)}
        for way, x in (("searched", there), ("looked up", looked_up))
    }


def shipped():
    return [name for name in STAGES if name in pretrained.shipped()]


def jobs():
    """What is to be measured, in this order: key -> (stage or None, function)."""
    yield "curve untouched", (None, partial(curve, None))
    for name in shipped():
        yield f"curve {name}", (name, partial(curve, name))
    for name in shipped():
        yield f"word lists {name}", (name, partial(limits, name))
    for typeface in OTHER_FACES:
        for name in shipped():
            yield f"limit {typeface} {name}", (name, partial(limit, name, typeface))
    for name in (None, *shipped()):
        yield f"typefaces {name or 'untouched'}", (name, partial(typefaces, name))
        yield f"labels {name or 'untouched'}", (name, partial(labels_read, name))
    if SAMPLED in shipped():
        yield "sampling", (SAMPLED, partial(sampling, SAMPLED))
        yield "best address", (SAMPLED, partial(best_address, SAMPLED))


def stored():
    """The results so far: key -> {"weights": …, "value": …}."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))["results"] if RESULTS.exists() else {}


def main(wanted=""):
    """Measures what is missing, of the keys that begin with `wanted`."""
    if not any(key.startswith(wanted) for key, _ in jobs()):
        sys.exit(f"No key begins with {wanted!r}; the keys are {', '.join(key for key, _ in jobs())}.")
    for key, (name, measure) in jobs():
        weights = stage(name).source.sha256[:16] if name else ""
        if key.startswith(wanted) and stored().get(key, {}).get("weights") != weights:
            found = {key: {"weights": weights, "value": measure()}}
            print(found, flush=True)
            record = {"made_by": COMMAND, "seed": SEED, "level": LEVEL, "results": stored() | found}
            replace_file(RESULTS, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:2])
