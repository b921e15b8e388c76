"""Exercises of chapter 8: whose fault, the right numbers, tiles that show, pasting back, repeated trips, a choice."""

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _cut(picture, box):
    top, left, height, width = box
    return picture[:, top : top + height, left : left + width]


def _share(original, trip, final, box, cut=_cut, error=lambda a, b: (a - b).square().mean()):
    original, trip, final = (cut(picture, box) for picture in (original, trip, final))
    return error(trip, original) / error(final, original)


def _with(**options):
    """A wrong submission that cuts out another part, or measures another error."""
    return lambda *inputs: _share(*inputs, **options)


def _three_pictures():
    """An original, its round trip and a final picture, faulty most of all outside of the box; and the box."""
    cases = []
    for seed, (box, size) in enumerate([((3, 5, 4, 9), (16, 20)), ((2, 1, 7, 6), (12, 15))]):
        noise = seeded(seed)
        original = torch.rand(3, *size, generator=noise)
        trip = original + 0.03 + 0.1 * torch.randn(3, *size, generator=noise)
        final = trip + 0.05 + 0.2 * torch.randn(3, *size, generator=noise)
        final[:, -2:] += 0.4
        cases.append((original, trip, final, box))
    return cases


vae_share = Exercise(
    "8.1",
    "How much of it is the VAE's?",
    solution=_share,
    cases=_three_pictures,
    mistakes={
        "whole picture": Mistake(_with(cut=lambda picture, box: picture),
            "You measured the whole picture. The fault is in the box: cut it out of all three first."),
        "upside down": Mistake(lambda *inputs: 1 / _share(*inputs),
            "The fraction is upside down: the error of the round trip goes on top."),
        "trip against final": Mistake(lambda original, trip, final, box: _share(final, trip, original, box),
            "You held the round trip beside the final picture. That is what the diffusion changed. Hold both beside the original."),
        "not squared": Mistake(_with(error=lambda a, b: (a - b).abs().mean()),
            "You took the absolute error. Square it: squares of independent errors add up, so that a share makes sense."),
        "root": Mistake(_with(error=lambda a, b: (a - b).square().mean().sqrt()),
            "You took the root. Shares are shares of the squared error."),
        "signed": Mistake(_with(error=lambda a, b: (a - b).mean()),
            "Your errors have a sign, and too bright cancels too dark. Square before you average."),
        "corners": Mistake(_with(cut=lambda picture, box: picture[:, box[0] : box[2], box[1] : box[3]]),
            "You read the box as two corners. It is (top, left, height, width): rows go from top to top + height."),
        "exchanged": Mistake(_with(cut=lambda picture, box: _cut(picture, (box[1], box[0], box[3], box[2]))),
            "Rows and columns are exchanged: the box begins with top and left, the picture is (3, rows, columns)."),
        "the rest": Mistake(lambda *inputs: 1 - _share(*inputs),
            "That is the diffusion's share, one minus the VAE's."),
    },
    success="Near 1: look for a better VAE. Near 0: leave the VAE alone.",
)  # fmt: skip


def _repaired(z, used, right):
    (scale, shift), (new_scale, new_shift) = used, right
    return (z / scale + shift - new_shift) * new_scale


repair = Exercise(
    "8.2",
    "Repair the cached latents",
    solution=_repaired,
    cases=lambda: [
        (torch.randn(2, 4, 3, 3, generator=seeded(0)), (0.18215, 0.0), (0.13025, 0.0)),
        (torch.randn(1, 16, 2, 2, generator=seeded(1)), (0.3611, 0.1159), (1.5305, 0.0609)),
    ],
    mistakes={
        "wrong direction": Mistake(lambda z, used, right: _repaired(z, right, used),
            "You took the right numbers off and put the wrong ones on. Undo `used` first."),
        "back in the wrong order": Mistake(
            lambda z, used, right: ((z + used[1]) / used[0] - right[1]) * right[0],
            "On the way back you shifted before you divided. The shift came off first, so it comes back last: z / scale + shift."),
        "there in the wrong order": Mistake(
            lambda z, used, right: (z / used[0] + used[1]) * right[0] - right[1],
            "On the way there you scaled before you shifted. The order is (raw − shift) · scale."),
        "both in the wrong order": Mistake(lambda z, used, right: (z + used[1]) / used[0] * right[0] - right[1],
            "Both ways are in the wrong order: there it is (raw − shift) · scale, and back z / scale + shift."),
        "no shift": Mistake(lambda z, used, right: z / used[0] * right[0],
            "You left the shift out. With the first VAEs it is 0 and nobody sees it; with the newer ones it is not."),
        "sign of the shift": Mistake(lambda z, used, right: (z / used[0] - used[1] + right[1]) * right[0],
            "Your shifts have the wrong sign: it is taken away on the way there, and added on the way back."),
        "multiplied": Mistake(lambda z, used, right: (z * used[0] + used[1] - right[1]) / right[0],
            "You multiplied on the way back and divided on the way there. The scale multiplies on the way *there*."),
        "still raw": Mistake(lambda z, used, right: z / used[0] + used[1],
            "These are raw latents, as the decoder takes them. A diffusion model wants them normalised with `right`."),
    },
    success="Undo in the opposite order, then do it right. No picture had to be encoded again.",
)  # fmt: skip


def _seam(picture, tile, first=0, step=lambda jump: jump.abs(), axis=2, others=True):
    """Mean jump across every `tile`-th border over the mean jump between other neighbours, along one axis."""
    jump = step(picture.diff(dim=axis)).transpose(axis, 2).mean((0, 1))
    border = (torch.arange(1, len(jump) + 1) - first) % tile == 0
    return jump[border].mean() / (jump[~border].mean() if others else jump.mean())


seam = Exercise(
    "8.3",
    "Can one see the tiles?",
    solution=_seam,
    cases=lambda: [
        (torch.rand(3, 12, 16, generator=seeded(0)) + torch.arange(16).div(4, rounding_mode="floor"), 4),
        (torch.rand(1, 15, 15, generator=seeded(1)) + torch.arange(15).div(5, rounding_mode="floor"), 5),
    ],
    mistakes={
        "a column too late": Mistake(lambda picture, tile: _seam(picture, tile, first=1),
            "You are a column late: the first border lies *before* column `tile`, so its jump has the index tile − 1."),
        "a column early": Mistake(lambda picture, tile: _seam(picture, tile, first=-1),
            "You are a column early: the first border lies *before* column `tile`, so its jump has the index tile − 1."),
        "upside down": Mistake(lambda picture, tile: 1 / _seam(picture, tile),
            "The fraction is upside down: a seam that one can see has to give *more* than 1."),
        "borders on both sides": Mistake(lambda picture, tile: _seam(picture, tile, others=False),
            "The borders are among the others as well, and hide themselves. Leave them out below."),
        "signed": Mistake(lambda picture, tile: _seam(picture, tile, step=lambda jump: jump),
            "Your jumps have a sign, and up cancels down. Take `.abs()` first."),
        "squared": Mistake(lambda picture, tile: _seam(picture, tile, step=torch.square),
            "You squared the jumps. The mean of their sizes is asked for."),
        "rows": Mistake(lambda picture, tile: _seam(picture, tile, axis=1),
            "These are the jumps from row to row. Go along the columns: `picture.diff(dim=2)`."),
    },
    success="1 is no seam. Give it the difference to the original, and the picture's own edges do not count.",
)  # fmt: skip


def _pasted(original, edited, mask):
    return mask * edited + (1 - mask) * original


def _edits():
    """Pictures, edits and masks with soft borders, twice."""
    cases = []
    for seed, shape in enumerate([(2, 3, 6, 8), (1, 3, 5, 5)]):
        noise = seeded(seed)
        original, edited = (torch.rand(shape, generator=noise) for _ in range(2))
        mask = (2 * torch.rand(shape[0], 1, *shape[2:], generator=noise) - 0.5).clamp(0, 1)
        cases.append((original, edited, mask))
    return cases


paste_back = Exercise(
    "8.4",
    "Paste back",
    solution=_pasted,
    cases=_edits,
    mistakes={
        "inside out": Mistake(lambda original, edited, mask: _pasted(edited, original, mask),
            "Inside out: the mask is 1 where the edit may show. You put the original there."),
        "hard border": Mistake(lambda original, edited, mask: _pasted(original, edited, (mask > 0.5).float()),
            "You cut along a hard border. The mask is soft at its edge: weigh with its values."),
        "any touch": Mistake(lambda original, edited, mask: _pasted(original, edited, (mask > 0).float()),
            "You took the edit wherever the mask is not quite 0. Weigh with its values."),
        "black outside": Mistake(lambda original, edited, mask: mask * edited,
            "Outside of the mask it is black: the original is missing there, (1 − mask) · original."),
        "added": Mistake(lambda original, edited, mask: original + mask * edited,
            "You added the edit on top. Where it comes in, the original has to go: the two weights add up to 1."),
        "half and half": Mistake(lambda original, edited, mask: (original + edited) / 2,
            "Half of each, everywhere. The mask says how much of which."),
        "nothing pasted": Mistake(lambda original, edited, mask: edited,
            "That is the edit as it came back, with every pixel gone through the VAE."),
    },
    success="Outside of the mask every pixel is now the client's own.",
)  # fmt: skip


prediction = Exercise(
    "8.5",
    "Ten times saved",
    solution=lambda: "less",
    cases=lambda: [()],
    mistakes={
        "ten times": Mistake(lambda: "ten times",
            "It would be, if every trip took away as much as the first. Is there as much left to take? Run the next cell."),
        "more": Mistake(lambda: "more",
            "It would be, if a trip did more harm to a picture that has been through one. Run the next cell and compare."),
        "nothing": Mistake(lambda: "nothing",
            "It would be, if what comes out went through unchanged the next time. Run the next cell and compare."),
    },
    success="Less than ten times, but every trip takes something. The next cell measures how much.",
)  # fmt: skip


def _picked(
    stages, limit, best=lambda letters, psnr, cost: (letters, psnr), fits=lambda cost, limit: cost <= limit
):
    return max((s for s in stages if fits(s[3], limit)), key=lambda s: best(*s[1:]))[0]


def _stages():
    """Names, share of letters, PSNR and cost of some VAEs, and a limit; the second list has a tie."""
    first = [("A", 0.20, 26.0, 1.0), ("B", 0.80, 27.0, 3.0), ("C", 0.70, 30.0, 2.5), ("D", 0.97, 33.0, 9.0)]
    second = [("E", 0.90, 24.0, 2.0), ("F", 0.90, 29.0, 4.0), ("G", 0.60, 31.0, 1.0), ("H", 0.99, 32.0, 4.5)]
    second += [("I", 0.50, 20.0, 3.0)]
    third = [("J", 0.40, 27.0, 1.0), ("K", 0.85, 28.0, 5.0), ("L", 0.80, 27.5, 3.0)]
    return [(first, 4.0), (second, 4.2), (third, 5.0)]


pick = Exercise(
    "8.6",
    "Which one, for this budget?",
    solution=_picked,
    cases=_stages,
    mistakes={
        "no limit": Mistake(lambda stages, limit: _picked(stages, limit, fits=lambda cost, limit: True),
            "You took the best of all, whatever it costs. Leave out those whose cost is above the limit first."),
        "limit itself left out": Mistake(lambda stages, limit: _picked(stages, limit, fits=lambda cost, limit: cost < limit),
            "A cost of exactly the limit is still within it: `<=`."),
        "best PSNR": Mistake(lambda stages, limit: _picked(stages, limit, best=lambda letters, psnr, cost: psnr),
            "You took the best PSNR, which hardly sees small letters. Letters count first; PSNR only breaks a tie."),
        "cheapest": Mistake(lambda stages, limit: _picked(stages, limit, best=lambda letters, psnr, cost: -cost),
            "You took the cheapest. Within the budget, the letters decide."),
        "per cost": Mistake(lambda stages, limit: _picked(stages, limit, best=lambda letters, psnr, cost: letters / cost),
            "You took most letters *per cost*. Half of the letters for a tenth of the cost is still an ad nobody can read."),
        "tie": Mistake(lambda stages, limit: _picked(stages, limit, best=lambda letters, psnr, cost: letters),
            "Two read equally many letters, and you took the first. Then the better PSNR decides."),
        "worst": Mistake(lambda stages, limit: min((s for s in stages if s[3] <= limit), key=lambda s: s[1:3])[0],
            "That is the one that reads the fewest: `max`, not `min`."),
    },
    success="Measure what the client looks at, on the client's pictures, and only then look at the price.",
)  # fmt: skip
