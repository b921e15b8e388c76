"""Exercises of chapter 5: precision, a prediction, a kernel distance, new pictures beside real ones, copies."""

import numpy as np
import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _features(*sizes, d=3, seed=0, spread=1.0):
    """Sets of features `(n, d)`, one for each of `sizes`; each is `spread` wider than the one before."""
    noise = seeded(seed)
    return tuple(spread**i * torch.randn(n, d, generator=noise) for i, n in enumerate(sizes))


def _reach(pictures, k):
    """Distance from each to the k-th nearest of its own set, itself not counted, `(n,)`."""
    return torch.cdist(pictures, pictures).sort(1).values[:, k]


def _within(real, made, k):
    """Whether each made picture is within reach of each real one, `(n, m)`."""
    return torch.cdist(real, made) <= _reach(real, k)[:, None]


precision = Exercise(
    "5.1",
    "How many look real?",
    solution=lambda real, made, k: _within(real, made, k).any(0).float().mean(),
    cases=lambda: [(*_features(40, 30, seed=3, spread=1.6), 3), (*_features(25, 20, seed=4, spread=1.4), 2)],
    mistakes={
        "recall": Mistake(lambda real, made, k: _within(made, real, k).any(0).float().mean(),
            "That is recall, the share of real pictures that made ones reach. For precision the real ones reach out."),
        "itself counted": Mistake(lambda real, made, k: _within(real, made, k - 1).any(0).float().mean(),
            "You counted each picture as its own nearest, at distance 0: the k-th neighbour is one place further."),
        "reach of the made": Mistake(lambda real, made, k: (torch.cdist(real, made) <= _reach(made, k)).any(0).float().mean(),
            "You let the made pictures reach out: mush that lies far from everything reaches far. Take the real ones' reach."),
        "all of them": Mistake(lambda real, made, k: _within(real, made, k).all(0).float().mean(),
            "You want every real picture to reach it. One is enough: `any`."),
        "one reach for all": Mistake(lambda real, made, k: (torch.cdist(real, made) <= _reach(real, k).mean()).any(0).float().mean(),
            "You gave every real picture the same reach. Each has its own: far where real pictures are rare."),
        "nearest only": Mistake(lambda real, made, k: (
                torch.cdist(real, made).min(0).values <= _reach(real, k)[torch.cdist(real, made).argmin(0)]).float().mean(),
            "You asked only the nearest real picture. One further off may reach further: ask all of them."),
        "coverage": Mistake(lambda real, made, k: _within(real, made, k).any(1).float().mean(),
            "You counted the real pictures that reach a made one, over the other axis. Count the made ones."),
        "count": Mistake(lambda real, made, k: _within(real, made, k).any(0).sum(),
            "That is a number of pictures; divide by how many were made."),
    },
    success="Precision as Kynkäänniemi and colleagues define it. Swap the two sets, and it is recall.",
)  # fmt: skip


prediction = Exercise(
    "5.2",
    "Half the pictures",
    solution=lambda: "rises",
    cases=lambda: [()],
    mistakes={
        "falls": Mistake(lambda: "falls",
            "Fewer pictures make worse guesses of both sets, and wrong guesses lie apart. Run the next cell and compare."),
        "stays": Mistake(lambda: "stays",
            "It would, if errors could cancel. A distance is never below 0: every error adds. Run the next cell and compare."),
    },
    success="It rises: the Fréchet distance is too large for few pictures. The next cell measures by how much.",
)  # fmt: skip


def _kernel(x, y, scale=None, one=1, power=3):
    return (x @ y.T / (scale or x.shape[1]) + one) ** power


def _within_set(kernel):
    """The mean over all pairs of two different pictures."""
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def _kid(x, y, cross=-2, within=_within_set, **options):
    sides = [within(_kernel(side, side, **options)) for side in (x, y)]
    return sum(sides) + cross * _kernel(x, y, **options).mean()


kid = Exercise(
    "5.3",
    "A distance without the bias",
    solution=_kid,
    cases=lambda: [_features(12, 9, d=4, seed=5, spread=1.5), _features(10, 14, d=2, seed=8)],
    mistakes={
        "diagonal": Mistake(lambda x, y: _kid(x, y, within=torch.mean),
            "You compared each picture with itself as well. That is the bias: leave the diagonal out."),
        "wrong count": Mistake(lambda x, y: _kid(x, y, within=lambda kernel: (kernel.sum() - kernel.trace()) / kernel.numel()),
            "The diagonal is gone, but you still divide by n². n (n − 1) pairs are left."),
        "sign": Mistake(lambda x, y: _kid(x, y, cross=2),
            "The mixed term has the wrong sign: pictures alike across the sets make the distance smaller."),
        "mixed term once": Mistake(lambda x, y: _kid(x, y, cross=-1),
            "The mixed term counts twice: two equal sets have to come out near 0."),
        "not divided": Mistake(lambda x, y: _kid(x, y, scale=1),
            "x·y has to be divided by d, or the figure grows with the number of features."),
        "squared kernel": Mistake(lambda x, y: _kid(x, y, power=2), "Your kernel is squared; KID cubes it."),
        "no one": Mistake(lambda x, y: _kid(x, y, one=0), "The + 1 in the kernel is missing, and with it the means."),
        "root": Mistake(lambda x, y: _kid(x, y).abs().sqrt(),
            "You took a root. KID is the squared distance, and may fall below 0, where a root means nothing."),
        "cut off at 0": Mistake(lambda x, y: _kid(x, y).clamp(min=0),
            "You cut it off at 0. It may fall below: only then is it 0 on average for two sets of one kind."),
    },
    success="For two sets of one kind it is 0 on average, however few pictures you have.",
)  # fmt: skip


# 5.4 Noise is random, so the check looks at what any right answer has in common.


def _in_turn(n, total, generator):
    return torch.arange(n) % total


def _beside(codes, n, noise, generator, draw=torch.randn, sources=_in_turn):
    chosen = sources(n, len(codes), generator)
    return codes[chosen] + noise * draw(n, codes.shape[1], generator=generator), chosen


def _with(**options):
    """A wrong submission that draws its noise or chooses its sources in another way."""
    return lambda codes, n, noise, generator: _beside(codes, n, noise, generator, **options)


def _check_neighbours(answer):
    codes, n, noise = 10 * torch.randn(5, 6, generator=seeded(0)), 1003, 0.3
    results = [answer(codes.clone(), n, noise, seeded(seed)) for seed in (1, 1, 2)]
    if not all(isinstance(result, tuple | list) and [*map(np.shape, result)] == [(n, 6), (n,)] for result in results):
        return "Two things should come back: the addresses `(n, d)`, and the source of each, `(n,)`."
    z, again, other = (torch.as_tensor(result[0]).float() for result in results)
    sources = torch.as_tensor(results[0][1]).long()
    if (torch.cdist(z, codes).argmin(1) != sources).float().mean() > 0.1:
        return "other sources"
    wrong = _wrong_sources(sources, len(codes)) or _wrong_noise(z - codes[sources], noise)
    if wrong is None and not torch.equal(z, again):
        return "own noise"
    return wrong or ("same every time" if torch.equal(z, other) else None)


def _wrong_sources(sources, total):
    counts = sources.bincount(minlength=total)
    if counts.max() == len(sources):
        return "always the first"
    if counts.max() - counts.min() > 1:
        return "by lot"
    in_turn = torch.equal(sources, _in_turn(len(sources), total, None))
    return None if in_turn else "Every source is used, but not in turn: 0, 1, 2 to the last one, then 0 again, and so on."


def _wrong_noise(shift, noise):
    spread = float(shift.std())
    if shift.abs().max() < 1e-4:
        return "no noise"
    if shift.std(0).max() < 1e-4:
        return "one noise for all"
    if shift.std(1).max() < 1e-4:
        return "one number a row"
    if shift.min() > -1e-4:
        return "never negative"
    known = {noise**2: "squared", 1.0: "not scaled"}
    named = next((name for size, name in known.items() if abs(spread / size - 1) < 0.05), None)
    if named or abs(spread / noise - 1) > 0.05 or abs(shift.mean()) > noise / 6:
        return named or f"The noise has mean {shift.mean():.2f} and spread {spread:.2f}; 0 and {noise} are asked for."
    flat = shift.abs().max() < 2.5 * spread
    return "Your noise has a hard edge; a bell has none: draw it with `torch.randn`." if flat else None


neighbours = Exercise(
    "5.4",
    "A step beside each of your own",
    solution=_beside,
    check=_check_neighbours,
    mistakes={
        "always the first": Mistake(_with(sources=lambda n, total, generator: torch.zeros(n, dtype=int)),
            "All your new addresses lie beside one source. Take them in turn: `torch.arange(n) % len(codes)`."),
        "by lot": Mistake(_with(sources=lambda n, total, generator: torch.randint(total, (n,), generator=generator)),
            "You drew the sources by lot, so that some come up far more often than others. Take them in turn."),
        "other sources": Mistake(lambda codes, n, noise, generator: (
                _beside(codes, n, noise, generator)[0], (torch.arange(n) + 1) % len(codes)),
            "The sources that you return are not those beside which the addresses lie; a copy would go unnoticed."),
        "no noise": Mistake(lambda codes, n, noise, generator: _beside(codes, n, 0.0, generator),
            "These are the sources themselves, which the decoder turns into copies: the noise is missing."),
        "one noise for all": Mistake(_with(draw=lambda n, d, generator: torch.randn(1, d, generator=generator)),
            "One and the same noise for all, so that all ads move the same way. Every row needs its own: `(n, d)`."),
        "one number a row": Mistake(_with(draw=lambda n, d, generator: torch.randn(n, 1, generator=generator)),
            "Each address got one number for all its coordinates, so it moves along one diagonal only. Draw `(n, d)`."),
        "never negative": Mistake(_with(draw=torch.rand),
            "Your noise is never negative: `torch.rand` draws between 0 and 1 and shifts everything. Take `torch.randn`."),
        "squared": Mistake(lambda codes, n, noise, generator: _beside(codes, n, noise**2, generator),
            "You squared the noise scale: it is the standard deviation itself, so multiply by `noise`."),
        "not scaled": Mistake(lambda codes, n, noise, generator: _beside(codes, n, 1.0, generator),
            "Your noise has a spread of 1 whatever was asked for: multiply by `noise`."),
        "own noise": Mistake(lambda codes, n, noise, generator: _beside(codes, n, noise, None),
            "The same generator gave two different results: hand it on, `torch.randn(…, generator=generator)`."),
        "same every time": Mistake(lambda codes, n, noise, generator: _beside(codes, n, noise, seeded(0)),
            "Another generator gave the same result: use the one that you are given, and seed none of your own."),
    },
    success="Each new address knows its source: now copies can be found out.",
)  # fmt: skip


def _nearest(made, reference):
    return torch.cdist(made, reference).min(1).values


def _cut(training, held_out):
    n = min(len(training), len(held_out))
    return training[:n], held_out[:n]


def _ratios(made, training, held_out, distance=_nearest):
    training, held_out = _cut(training, held_out)
    return distance(made, training) / distance(made, held_out)


nearest_ratio = Exercise(
    "5.5",
    "Nearer to what it knows?",
    solution=lambda *sets: _ratios(*sets).median(),
    cases=lambda: [_features(21, 40, 15, seed=9), _features(21, 12, 30, seed=2)],
    mistakes={
        "unequal sizes": Mistake(lambda made, training, held_out: (_nearest(made, training) / _nearest(made, held_out)).median(),
            "You compared a large set with a small one: among more pictures the nearest is nearer, copy or not. Cut both "
            "to the smaller size."),
        "upside down": Mistake(lambda *sets: (1 / _ratios(*sets)).median(),
            "The fraction is upside down: a copy is near to the *training* pictures, and is to give a small figure."),
        "mean": Mistake(lambda *sets: _ratios(*sets).mean(),
            "You took the mean, which a few odd pictures can carry off. Take the median."),
        "ratio of medians": Mistake(lambda made, *sides: (
                _nearest(made, _cut(*sides)[0]).median() / _nearest(made, _cut(*sides)[1]).median()),
            "You divided two medians. Divide picture by picture, and take the median of the ratios."),
        "squared": Mistake(lambda *sets: _ratios(*sets).square().median(),
            "Your distances are squared: the square root is missing."),
        "mean distance": Mistake(lambda *sets: _ratios(*sets, lambda made, side: torch.cdist(made, side).mean(1)).median(),
            "You averaged over all pictures of a set, and a copy vanishes in that. Only the nearest one counts."),
        "wrong axis": Mistake(lambda *sets: _ratios(*sets, lambda made, side: torch.cdist(made, side).min(0).values).median(),
            "You asked which made picture is nearest to each real one. Ask for each made picture: `min(1)`."),
    },
    success="1 for new pictures, well below 1 for copies of training pictures that are among those compared.",
)  # fmt: skip
