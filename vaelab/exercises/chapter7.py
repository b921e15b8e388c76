"""Exercises of chapter 7: the normaliser, noise, what v says, the price of a step, guidance, and what a step costs."""

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _latents(n, seed, shape=(2, 3, 3)):
    return torch.randn(n, *shape, generator=seeded(seed))


def _both(raw, unit, scale, shift):
    return (raw - shift) * scale, unit / scale + shift


normaliser = Exercise(
    "7.1",
    "To one scale and back",
    solution=_both,
    cases=lambda: [(5.49 * _latents(3, 0) + 0.7, _latents(3, 1), 0.18215, 0.7), (0.6 * _latents(2, 2), _latents(2, 3), 1.53, 0.0609)],
    mistakes={
        "multiplied both ways": Mistake(lambda raw, unit, scale, shift: ((raw - shift) * scale, unit * scale + shift),
            "You multiply on the way there and on the way back. What was multiplied by the scale has to be divided by it."),
        "taken for the spread": Mistake(lambda raw, unit, scale, shift: ((raw - shift) / scale, unit * scale + shift),
            "You took the scale for the standard deviation, as diffusers' own text calls it. It is one over it: multiply "
            "going in, divide coming out."),
        "shift after the scale": Mistake(lambda raw, unit, scale, shift: (raw * scale - shift, (unit + shift) / scale),
            "You take the shift away after scaling. It is a mean of raw latents: take it away first, put it back last."),
        "back in the same order": Mistake(lambda raw, unit, scale, shift: ((raw - shift) * scale, (unit + shift) / scale),
            "On the way back the last step has to be undone first: divide by the scale, then add the shift."),
        "no shift": Mistake(lambda raw, unit, scale, shift: (raw * scale, unit / scale),
            "The shift is missing. The first family, Stable Diffusion 1, has none; later ones have."),
        "shift twice away": Mistake(lambda raw, unit, scale, shift: ((raw - shift) * scale, unit / scale - shift),
            "On the way back the shift has to be added again; you take it away a second time."),
        "only one": Mistake(lambda raw, unit, scale, shift: (raw - shift) * scale,
            "That is the way there. Return both, the way there and the way back."),
    },
    success="In at 5.49, out at 1, and back. 0.18215 is no magic number any more.",
)  # fmt: skip


def _noisy(x, noise, signal, alpha=torch.sqrt, sigma=lambda signal: (1 - signal).sqrt()):
    signal = signal[:, None, None, None]
    return alpha(signal) * x + sigma(signal) * noise


def _with(**options):
    return lambda x, noise, signal: _noisy(x, noise, signal, **options)


add_noise = Exercise(
    "7.2",
    "Into the noise",
    solution=_noisy,
    cases=lambda: [(_latents(4, 4), _latents(4, 5), torch.tensor([0.99, 0.6, 0.2, 0.01])), (_latents(2, 6), _latents(2, 7), torch.tensor([0.3, 0.8]))],
    mistakes={
        "no roots": Mistake(_with(alpha=lambda s: s, sigma=lambda s: 1 - s),
            "The roots are missing. Shares of *variance* add up to 1, so each part is multiplied by the root of its share; "
            "yours loses variance on the way."),
        "swapped": Mistake(_with(alpha=lambda s: (1 - s).sqrt(), sigma=torch.sqrt),
            "Picture and noise have each other's weight: signal is the share of the *picture*."),
        "root of one only": Mistake(_with(sigma=lambda s: 1 - s), "The noise is missing its root: √(1 − signal)."),
        "one minus the root": Mistake(_with(sigma=lambda s: 1 - s.sqrt()),
            "You took 1 − √signal for the noise. It is √(1 − signal): first the share that is left, then the root."),
        "picture kept whole": Mistake(_with(alpha=torch.ones_like),
            "You add noise and keep the whole picture, so that the spread grows beyond 1. As noise comes in, the picture has to go."),
        "noise not scaled": Mistake(_with(sigma=torch.ones_like), "You add all of the noise at every step; only √(1 − signal) of it."),
    },
    success="The spread stays 1 from the first step to the last: the network sees numbers of one size.",
)  # fmt: skip


def _mixed(weights):
    """A wrong submission `(x_t, v, alpha, sigma)` that weighs x_t and v in another way."""

    def submission(x_t, v, alpha, sigma):
        of_x_t, of_v = weights(alpha, sigma)
        return of_x_t * x_t + of_v * v

    return submission


def _v_cases():
    cases = []
    for seed, angle in ((8, 0.5), (9, 1.2)):
        x, noise, angle = _latents(2, seed), _latents(2, seed + 50), torch.tensor(angle)
        alpha, sigma = angle.cos(), angle.sin()
        cases.append((alpha * x + sigma * noise, alpha * noise - sigma * x, alpha, sigma))
    return cases


clean_from_v = Exercise(
    "7.3",
    "What does v say?",
    solution=_mixed(lambda alpha, sigma: (alpha, -sigma)),
    cases=_v_cases,
    mistakes={
        "plus": Mistake(_mixed(lambda alpha, sigma: (alpha, sigma)),
            "The sign of σ·v is wrong: put v = α·ε − σ·x in, and the noise has to drop out."),
        "the noise": Mistake(_mixed(lambda alpha, sigma: (sigma, alpha)),
            "That is the noise, σ·x_t + α·v. The clean latents are asked for."),
        "as if it were noise": Mistake(_mixed(lambda alpha, sigma: (1 / alpha, -sigma / alpha)),
            "That is the formula for a network that predicts the noise. This one predicts v: nothing is divided."),
        "as if it were flow": Mistake(_mixed(lambda alpha, sigma: (1, -sigma)),
            "That is the formula of flow matching, where v = ε − x. Here x_t still has to be multiplied by α."),
        "upside down": Mistake(_mixed(lambda alpha, sigma: (-alpha, sigma)),
            "You have minus the clean latents: the picture would come out as its negative."),
        "swapped": Mistake(_mixed(lambda alpha, sigma: (sigma, -alpha)), "α and σ have changed places."),
    },
    success="From any v the clean picture and the noise both follow: it is one statement, said differently.",
)  # fmt: skip


def _gap(mean, other):
    return (mean - other).square().sum(1)


step_price = Exercise(
    "7.4",
    "The price of one step",
    solution=lambda mean, other, variance: _gap(mean, other) / (2 * variance),
    cases=lambda: [(*(2 * torch.randn(3, 5, generator=seeded(s)) for s in (10, 11)), 0.3), (*(torch.randn(2, 4, generator=seeded(s)) for s in (12, 13)), 1.7)],
    mistakes={
        "missing half": Mistake(lambda mean, other, variance: _gap(mean, other) / variance,
            "Twice too large: the ½ is missing."),
        "spread for variance": Mistake(lambda mean, other, variance: _gap(mean, other) / (2 * variance**0.5),
            "You divide by the standard deviation. A squared distance is divided by the variance."),
        "variance squared": Mistake(lambda mean, other, variance: _gap(mean, other) / (2 * variance**2),
            "You squared the variance; it is a square already."),
        "mean over the numbers": Mistake(lambda mean, other, variance: (mean - other).square().mean(1) / (2 * variance),
            "You averaged over the numbers of an address. Nats add up: take the sum."),
        "not squared": Mistake(lambda mean, other, variance: _gap(mean, other).sqrt() / (2 * variance),
            "The distance has to be squared."),
        "one for all": Mistake(lambda mean, other, variance: (_gap(mean, other) / (2 * variance)).mean(),
            "You averaged over the pictures. One price for each picture is asked for, `(N,)`."),
        "negative": Mistake(lambda mean, other, variance: -_gap(mean, other) / (2 * variance),
            "A KL is never below nought: the sign is wrong."),
    },
    success="So the squared error of a prediction, times a weight for its step, is a price in nats, as in chapter 3.",
)  # fmt: skip


guide = Exercise(
    "7.5",
    "Turn the words up",
    solution=lambda said, unsaid, guidance: unsaid + guidance * (said - unsaid),
    cases=lambda: [(_latents(2, 14), _latents(2, 15), 3.0), (_latents(2, 16), _latents(2, 17), 1.5)],
    mistakes={
        "from the wrong end": Mistake(lambda said, unsaid, guidance: said + guidance * (said - unsaid),
            "You start from the prediction *with* words, so that guidance 0 would already be 1. That is how the first paper "
            "counts; everybody else starts from the one without."),
        "wrong way": Mistake(lambda said, unsaid, guidance: unsaid + guidance * (unsaid - said),
            "You push away from the words: said − unsaid points towards them."),
        "exchanged": Mistake(lambda said, unsaid, guidance: said + guidance * (unsaid - said),
            "The two have changed places: at guidance 1 the words have to be followed as they are."),
        "base forgotten": Mistake(lambda said, unsaid, guidance: guidance * (said - unsaid),
            "You return the push alone. It has to be added to the prediction without words."),
        "words alone": Mistake(lambda said, unsaid, guidance: guidance * said,
            "You made the prediction larger, not more obedient: what the words change is the *difference* of the two."),
        "base kept twice": Mistake(lambda said, unsaid, guidance: guidance * said - unsaid,
            "The weight of the prediction without words is 1 − guidance, not −1: the two weights add up to 1."),
    },
    success="At 0 the words are ignored, at 1 followed as learned, above 1 exaggerated.",
)  # fmt: skip


def _cost(size, factor, before, after):
    return 9 * (size // factor) ** 2 * before * after


step_cost = Exercise(
    "7.6",
    "What one layer costs",
    solution=_cost,
    cases=lambda: [(512, 8, 32, 64), (256, 4, 3, 32), (128, 1, 32, 48)],
    mistakes={
        "squeezed one way": Mistake(lambda size, factor, before, after: 9 * size * size // factor * before * after,
            "You divided by the factor once. Height *and* width shrink: there are f² times fewer places."),
        "on the pixels": Mistake(lambda size, factor, before, after: _cost(size, 1, before, after),
            "You counted the pixels of the picture. The layer runs on the latents, size / factor a side."),
        "one by one": Mistake(lambda size, factor, before, after: _cost(size, factor, before, after) // 9,
            "A 3×3 convolution looks at nine places for each one: times 9."),
        "three, not nine": Mistake(lambda size, factor, before, after: _cost(size, factor, before, after) // 3,
            "The window is 3 high and 3 wide: times 9, not 3."),
        "channels added": Mistake(lambda size, factor, before, after: 9 * (size // factor) ** 2 * (before + after),
            "Every channel after looks at every channel before: multiply the two, do not add them."),
        "channels before only": Mistake(lambda size, factor, before, after: 9 * (size // factor) ** 2 * before,
            "That makes one channel. There are `after` of them."),
        "one side only": Mistake(lambda size, factor, before, after: 9 * (size // factor) * before * after,
            "You counted one row of places. There are as many rows as columns: square it."),
    },
    success="Sixty-four times fewer places at f = 8. What becomes of that for a whole network is measured next.",
)  # fmt: skip
