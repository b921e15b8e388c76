"""Exercises of chapter 6: numbers kept, likeness in decibels, the smallest letters, detail in place, which VAE to take."""

import math

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _fewer(height, width, factor, channels):
    return 3 * height * width / (channels * (height / factor) * (width / factor))


fewer = Exercise(
    "6.1",
    "How much is left to draw from?",
    solution=_fewer,
    cases=lambda: [(256, 256, 8, 4), (128, 192, 4, 16), (512, 64, 16, 5)],
    mistakes={
        "one side": Mistake(lambda height, width, factor, channels: 3 * factor / channels,
            "You shrank one side only. Height and width are both divided by f, so places are f² times fewer."),
        "colours forgotten": Mistake(lambda height, width, factor, channels: factor**2 / channels,
            "You counted pixels. Each of them has three colour values."),
        "channels forgotten": Mistake(lambda height, width, factor, channels: 3 * factor**2,
            "Each place of the latent holds c numbers, not one: divide by `channels`."),
        "places only": Mistake(lambda height, width, factor, channels: factor**2,
            "You compared places with places. A pixel has 3 numbers and a place of the latent has c."),
        "upside down": Mistake(lambda *sizes: 1 / _fewer(*sizes),
            "The fraction is upside down: asked is how many times *fewer*, a number above 1 here."),
        "numbers kept": Mistake(lambda height, width, factor, channels: channels * height * width / factor**2,
            "That is how many numbers are kept. Divide the picture's own numbers by it."),
        "channels the wrong way": Mistake(lambda height, width, factor, channels: 3 * factor**2 * channels,
            "More channels keep more, so the result must fall as c grows: divide by it."),
    },
    success="The size of the picture falls out: 3 · f² / c times fewer, whatever you put in.",
)  # fmt: skip


def _squares(a, b):
    return (a - b).square().flatten(1).mean(1)


def _pictures():
    """Batches that differ from picture to picture, in [0, 1]."""
    cases = []
    for seed, shape in ((1, (3, 3, 8, 8)), (2, (2, 1, 5, 9))):
        a = torch.rand(shape, generator=seeded(seed))
        noise = torch.randn(shape, generator=seeded(seed + 10)) * torch.linspace(0.05, 0.3, shape[0]).view(-1, 1, 1, 1)
        cases.append((a, (a + noise).clamp(0, 1)))
    return cases


psnr = Exercise(
    "6.2",
    "Likeness in decibels",
    solution=lambda a, b: -10 * _squares(a, b).log10(),
    cases=_pictures,
    mistakes={
        "one for all": Mistake(lambda a, b: -10 * (a - b).square().mean().log10(),
            "One number for the whole batch. Each picture gets its own: `flatten(1).mean(1)`, shape `(N,)`."),
        "mean of all": Mistake(lambda a, b: (-10 * _squares(a, b).log10()).mean(),
            "You averaged the decibels at the end; asked is one figure a picture, `(N,)`."),
        "sign": Mistake(lambda a, b: 10 * _squares(a, b).log10(),
            "The sign is turned round: a smaller error has to give more decibels."),
        "twenty": Mistake(lambda a, b: -20 * _squares(a, b).log10(),
            "20·log₁₀ belongs to the root of the error. With the squared error itself it is 10."),
        "natural logarithm": Mistake(lambda a, b: -10 * _squares(a, b).log(),
            "That is the natural logarithm; decibels take the one to base 10: `log10`."),
        "absolute error": Mistake(lambda a, b: -10 * (a - b).abs().flatten(1).mean(1).log10(),
            "You took the absolute error. PSNR squares it, so that a large error counts more than two small ones."),
        "sum": Mistake(lambda a, b: -10 * (a - b).square().flatten(1).sum(1).log10(),
            "You summed over the pixels: a larger picture would look worse. Take the mean."),
        "root": Mistake(lambda a, b: -10 * _squares(a, b).sqrt().log10(),
            "You took the root and still multiplied by 10: that is half the decibels."),
        "peak 255": Mistake(lambda a, b: 20 * math.log10(255) - 10 * _squares(a, b).log10(),
            "You added 20·log₁₀ 255, the peak of whole grey levels. Our pictures run from 0 to 1: the peak is 1."),
        "by colour": Mistake(lambda a, b: (-10 * (a - b).square().mean((2, 3)).log10()).mean(1),
            "You took decibels for each colour and averaged those. Average the error first, then take the logarithm."),
        "no ten": Mistake(lambda a, b: -_squares(a, b).log10(), "These are bels. A decibel is a tenth of one: times 10."),
    },
    success="Ten decibels more is a tenth of the squared error.",
)  # fmt: skip


def _from_the_top(heights, shares, level):
    reached = math.nan
    for height, share in sorted(zip(heights, shares, strict=True), reverse=True):
        if share < level:
            break
        reached = height
    return reached


def _first(heights, shares, fits):
    return next((height for height, share in zip(heights, shares, strict=True) if fits(share)), math.nan)


smallest = Exercise(
    "6.3",
    "How small may it be?",
    solution=_from_the_top,
    cases=lambda: [
        ([6, 8, 10, 12, 14, 16], [0.1, 0.96, 0.7, 0.94, 0.95, 1.0], 0.95),
        ([5, 6, 7, 8, 9], [0.0, 0.4, 0.97, 0.98, 0.99], 0.97),
        ([6, 9, 12, 15], [0.2, 0.89, 0.93, 0.96], 0.9),
    ],
    mistakes={
        "first that reaches": Mistake(lambda heights, shares, level: _first(heights, shares, lambda s: s >= level),
            "You took the first height that reaches the level. By luck one small size may; asked is the height from which "
            "*all* do. Begin at the largest."),
        "above only": Mistake(lambda heights, shares, level: _first(heights, shares, lambda s: s > level),
            "You took the first height *above* the level. Reaching it is enough, and all larger ones must reach it too."),
        "must be above": Mistake(lambda heights, shares, level: _from_the_top(heights, shares, level + 1e-6),
            "A height that reaches the level exactly counts: `>=`, not `>`."),
        "last that fails": Mistake(
            lambda heights, shares, level: max(h for h, s in zip(heights, shares, strict=True) if s < level),
            "That is the largest height that fails. The answer is the next one above it."),
        "one pixel more": Mistake(
            lambda heights, shares, level: 1 + max(h for h, s in zip(heights, shares, strict=True) if s < level),
            "You added one pixel to the largest height that fails. Only heights that were measured can be the answer."),
        "place in the list": Mistake(
            lambda heights, shares, level: float(heights.index(_from_the_top(heights, shares, level))),
            "That is the place in the list. The art director wants pixels: `heights[i]`."),
        "best read": Mistake(lambda heights, shares, level: heights[max(range(len(shares)), key=shares.__getitem__)],
            "That is the height that was read best. Asked is the smallest one that is read well enough."),
        "nearest to the level": Mistake(
            lambda heights, shares, level: min(zip(heights, shares, strict=True), key=lambda pair: abs(pair[1] - level))[0],
            "That is the height whose share is nearest to the level, from either side. From the answer on, all must reach it."),
    },
    success="From here on everything can be read. Anything smaller is a gamble.",
)  # fmt: skip


def _spectra(a, b, high=math.inf, low=0.0, radius=torch.hypot):
    """Fourier coefficients (N, K) of both pictures, of the wanted frequencies only."""
    across, down = torch.fft.fftfreq(a.shape[1]), torch.fft.fftfreq(a.shape[0])
    frequency = radius(down[:, None].expand(a.shape), across[None].expand(a.shape))
    inside = (frequency >= low) & (frequency < high)
    return torch.fft.fft2(a)[inside], torch.fft.fft2(b)[inside]


def _shared(a, b):
    return (a * b.conj()).real.sum()


def _power(a):
    return a.abs().square().sum()


def _kept(a, b, low, high, **options):
    before, after = _spectra(a, b, high, low, **options)
    return _shared(before, after) / _power(before)


def _of_band(measure):
    """A wrong submission that looks at the right band and does something else there."""
    return lambda a, b, low, high: measure(*_spectra(a, b, high, low))


def _textures():
    """A grey picture, and one where half of its detail stayed in place and other detail came."""
    cases = []
    for seed, (high, wide), band in ((3, (16, 16), (0.125, 0.25)), (4, (12, 20), (0.25, 1.0))):
        a, other = (torch.rand(high, wide, generator=seeded(seed + i)) for i in (0, 10))
        cases.append((a, 0.5 * a + 0.4 * other, *band))
    return cases


detail = Exercise(
    "6.4",
    "Still there, or other detail?",
    solution=_kept,
    cases=_textures,
    mistakes={
        "power": Mistake(_of_band(lambda a, b: _power(b) / _power(a)),
            "You compared how much detail there is, before and after. Invented detail counts in that: multiply A by B's "
            "conjugate, and only what is in its place counts."),
        "absolute value": Mistake(_of_band(lambda a, b: (a * b.conj()).abs().sum() / _power(a)),
            "You took the absolute value of A·B*: detail in the wrong place then counts as kept. Take the real part."),
        "correlation": Mistake(_of_band(lambda a, b: _shared(a, b) / (_power(a) * _power(b)).sqrt()),
            "That is a correlation: it does not notice if all detail faded to a tenth. Divide by the power of A alone."),
        "over the new power": Mistake(_of_band(lambda a, b: _shared(a, b) / _power(b)),
            "You divided by the power of the new picture. Asked is the share of the *original's* detail: divide by that of A."),
        "no conjugate": Mistake(_of_band(lambda a, b: (a * b).real.sum() / _power(a)),
            "The conjugate is missing: A·A is not the power of A, A·A* is. Write `B.conj()`."),
        "all frequencies": Mistake(lambda a, b, low, high: _kept(a, b, 0, math.inf),
            "You took all frequencies, and the picture's brightness drowns the rest. Keep those from `low` to below `high`."),
        "everything above": Mistake(lambda a, b, low, high: _kept(a, b, low, math.inf),
            "You took everything above `low`. The band ends below `high`."),
        "across only": Mistake(lambda a, b, low, high: _kept(a, b, low, high, radius=lambda down, across: across.abs()),
            "You looked at the frequency across only. A slanted stripe has both: take `torch.hypot` of the two."),
        "sum of both": Mistake(lambda a, b, low, high: _kept(a, b, low, high, radius=lambda y, x: y.abs() + x.abs()),
            "You added the two frequencies. They are the sides of a right angle: take `torch.hypot`."),
        "mean of shares": Mistake(_of_band(lambda a, b: ((a * b.conj()).real / a.abs().square()).mean()),
            "You took a share for each frequency and averaged those: a frequency with hardly anything in it counts as much as a "
            "strong one. Sum above and below, then divide once."),
    },
    success="1: all there and in place. 0: gone, or other detail stands in its place; the power tells which.",
)  # fmt: skip


def _fitting(stages, height, margin):
    """Names of those that still read letters of this height, margin kept."""
    return [name for name, (_, limit) in stages.items() if limit + margin <= height]


def _choose(stages, height, margin=1, best=max, key=lambda stage: stage[0]):
    fitting = _fitting(stages, height, margin)
    return best(fitting, key=lambda name: key(stages[name])) if fitting else "none"


def _offers():
    offers = {"A": (12, 9), "B": (48, 17), "C": (3, 6), "D": (24, 13), "E": (2, 8)}
    return [(offers, 10), (offers, 13), (offers, 14), (offers, 30), (offers, 5)]


choose = Exercise(
    "6.5",
    "Which one for this client?",
    solution=_choose,
    cases=_offers,
    mistakes={
        "no margin": Mistake(lambda stages, height: _choose(stages, height, 0),
            "You gave the limit no margin. It was measured to a pixel more or less: limit + 1 must not exceed the height."),
        "margin for nothing": Mistake(lambda stages, height: _choose(stages, height, 2),
            "Your margin is larger than one pixel, or you used < for ≤: a limit of 9 is good enough for 10 pixels."),
        "always the best": Mistake(lambda stages, height: min(stages, key=lambda name: stages[name][1]),
            "You always take the one that reads the smallest letters. It costs most, and may still not be good enough: then say "
            "\"none\"."),
        "best of those that fit": Mistake(lambda stages, height: _choose(stages, height, best=min, key=lambda stage: stage[1]),
            "Among those that fit you took the one with the smallest limit. Good enough is good enough: take the one that keeps "
            "the fewest numbers."),
        "the dearest": Mistake(lambda stages, height: _choose(stages, height, best=min),
            "You took the smallest compression, which keeps most numbers. Among those that fit, the largest one is the cheapest."),
        "always the cheapest": Mistake(lambda stages, height: max(stages, key=lambda name: stages[name][0]),
            "You always take the largest compression. First leave out those that cannot draw the letters."),
        "never none": Mistake(
            lambda stages, height: _choose(stages, height) if _fitting(stages, height, 1) else min(
                stages, key=lambda name: stages[name][1]),
            "Where nothing fits you name the best of the bad. Say \"none\": then the type is set afterwards."),
    },
    success="The cheapest that is good enough; and where none is, the type is set afterwards.",
)  # fmt: skip
