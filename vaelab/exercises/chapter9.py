"""Exercises of chapter 9: made-up winners, leaking ads, F1, an honest threshold, and a gain with its interval."""

import torch

from vaelab.exercises import Exercise, Mistake, seeded

prediction = Exercise(
    "9.1",
    "What will 600 made-up winners do?",
    solution=lambda: "less",
    cases=lambda: [()],
    mistakes={
        "more": Mistake(lambda: "more",
            "It would be, if a made ad told the classifier something that the 340 it comes from do not. Run the next cell."),
        "same": Mistake(lambda: "same",
            "It would be, if the made ads looked just like real ones. Hold one beside its source, then run the next cell."),
    },
    success="Less. More ads are not more knowledge, and these look a little unlike real ones. The next cell measures by how much.",
)  # fmt: skip


def _hit(sources, groups, held_out):
    """For each made ad, whether its source shares a motif with a held-out ad."""
    return torch.isin(groups[sources], groups[held_out])


def _leaked(sources, groups, held_out):
    return _hit(sources, groups, held_out).float().mean()


def _campaigns():
    """Sources of made ads, the motif of every ad of a collection in no order, and the ads kept aside, twice."""
    cases = []
    for seed, (ads, motifs, made, aside) in enumerate([(40, 25, 30, 6), (60, 30, 24, 9)]):
        noise = seeded(seed)
        groups = torch.randint(motifs, (ads,), generator=noise)
        held_out = torch.randperm(ads, generator=noise)[:aside]
        cases.append((torch.randint(ads, (made,), generator=noise), groups, held_out))
    return cases


leaked = Exercise(
    "9.3",
    "How many made ads leak?",
    solution=_leaked,
    cases=_campaigns,
    mistakes={
        "source only": Mistake(lambda sources, groups, held_out: torch.isin(sources, held_out).float().mean(),
            "You asked whether the source itself is kept aside. A sister of the same motif gives it away as well: compare motifs."),
        "sources as motifs": Mistake(lambda sources, groups, held_out: torch.isin(sources, groups[held_out]).float().mean(),
            "You compared the number of an ad with the number of a motif. Look the source's motif up first: groups[sources]."),
        "ads as motifs": Mistake(lambda sources, groups, held_out: torch.isin(groups[sources], held_out).float().mean(),
            "You compared the number of a motif with the number of an ad. Look the held-out motifs up as well: groups[held_out]."),
        "count": Mistake(lambda *inputs: _hit(*inputs).sum(),
            "That is how many leak. The share is asked for: divide by the number of made ads."),
        "clean": Mistake(lambda *inputs: 1 - _leaked(*inputs),
            "That is the share that is clean, one minus the share that leaks."),
        "held-out ads hit": Mistake(lambda sources, groups, held_out: _leaked(held_out, groups, sources),
            "That is the share of the held-out ads that were hit. The share of the *made* ads is asked for."),
        "per ad of the collection": Mistake(lambda sources, groups, held_out: _hit(sources, groups, held_out).sum() / len(groups),
            "You divided by the number of ads in the collection. Divide by the number of made ads."),
        "each source once": Mistake(lambda sources, groups, held_out: _leaked(sources.unique(), groups, held_out),
            "You counted each source once. Three made ads from one source are three ads that leak."),
        "each motif once": Mistake(
            lambda sources, groups, held_out: torch.isin(groups[sources].unique(), groups[held_out]).float().mean(),
            "You counted each motif once. The share of made *ads* is asked for, however many come from one motif."),
    },
    success="0 is the only good answer. Keep motifs together when you split, and draw sources from the training part only.",
)  # fmt: skip


def _counts(labels, called):
    """Hits, false alarms, missed ones, and rightly left alone, as numbers."""
    high, called = labels.bool(), called.bool()
    pairs = (high & called, ~high & called, high & ~called, ~high & ~called)
    return [pair.float().sum() for pair in pairs]


def _score(hits, alarms, missed, calm):
    return 2 * hits / (2 * hits + alarms + missed)


def _scored(formula, call=torch.ge):
    """A wrong submission with another formula for the four counts, or that calls other ads high."""
    return lambda labels, p, threshold: formula(*_counts(labels, call(p, threshold)))


_f1 = _scored(_score)


def _judged(seed, n, ties=False):
    """Labels, and probabilities that know something of them; with `ties`, in steps of 1/8, which are exact."""
    noise = seeded(seed)
    labels = (torch.rand(n, generator=noise) < 0.4).long()
    p = (0.35 + 0.2 * labels + 0.2 * torch.randn(n, generator=noise)).clamp(0.02, 0.98)
    return labels, (8 * p).round() / 8 if ties else p


f1 = Exercise(
    "9.4",
    "F1 at a threshold",
    solution=_f1,
    cases=lambda: [(*_judged(0, 30, ties=True), 0.375), (*_judged(1, 40), 0.45), (*_judged(2, 25, ties=True), 0.625)],
    mistakes={
        "above only": Mistake(_scored(_score, call=torch.gt),
            "A probability of exactly the threshold is called high, too: `>=`."),
        "below": Mistake(_scored(_score, call=torch.lt),
            "You called those below the threshold high. High is where the probability is at or above it."),
        "always a half": Mistake(lambda labels, p, threshold: _f1(labels, p, 0.5),
            "You called high from 0.5 up, whatever the threshold. Compare with `threshold`."),
        "precision": Mistake(_scored(lambda hits, alarms, missed, calm: hits / (hits + alarms)),
            "That is precision: of those called high, the share that are. The missed ones have to count as well."),
        "recall": Mistake(_scored(lambda hits, alarms, missed, calm: hits / (hits + missed)),
            "That is recall: of the high ones, the share that you called. The false alarms have to count as well."),
        "accuracy": Mistake(_scored(lambda hits, alarms, missed, calm: (hits + calm) / (hits + alarms + missed + calm)),
            "That is the share of right calls. F1 leaves out the low ads that were rightly left alone: they are many, and easy."),
        "plain mean": Mistake(
            _scored(lambda hits, alarms, missed, calm: (hits / (hits + alarms) + hits / (hits + missed)) / 2),
            "That is the plain mean of precision and recall. F1 is their harmonic mean, which is nearer the smaller one."),
        "other class": Mistake(_scored(lambda hits, alarms, missed, calm: _score(calm, missed, alarms, hits)),
            "That is the F1 of the low ads. Hits are high ads that were called high."),
        "no 2 on top": Mistake(_scored(lambda *counts: _score(*counts) / 2),
            "Half as large as it should be: the 2 on top is missing."),
        "no 2 at all": Mistake(_scored(lambda hits, alarms, missed, calm: hits / (hits + alarms + missed)),
            "Both 2s are missing. A hit counts twice, on top and below: once for precision, once for recall."),
        "no 2 below": Mistake(_scored(lambda hits, alarms, missed, calm: 2 * hits / (hits + alarms + missed)),
            "The 2 below is missing, so that a perfect caller would get 2 instead of 1."),
        "percent": Mistake(_scored(lambda *counts: 100 * _score(*counts)),
            "A number between 0 and 1 is asked for, not per cent."),
    },
    success="One number for two kinds of error. Never quote it without the F1 of calling everything high.",
)  # fmt: skip


def _accuracy(labels, p, threshold):
    return ((p >= threshold) == labels.bool()).float().mean()


def _best(part, candidates, score=_f1):
    """Of these thresholds, tried in turn, the first with the best score on a part."""
    return max(candidates, key=lambda threshold: float(score(*part, threshold)))


def _tuned(validation, test, chosen=lambda v, t: _best(v, v[1].sort().values), score=_f1):
    return score(*test, chosen(validation, test))


def _chosen(chosen):
    """A wrong submission that takes its threshold from elsewhere."""
    return lambda validation, test: _tuned(validation, test, chosen=chosen)


def _together(v, t):
    return tuple(torch.cat(pair) for pair in zip(v, t, strict=True))


def _same_share(v, t):
    """The threshold that calls the same share of test high as is high in validation."""
    wanted = round(float(v[0].float().mean()) * len(t[1]))
    return t[1].sort(descending=True).values[wanted - 1]


def _parts():
    """Validation and test; in the first two pairs two thresholds are equally good on validation, in either order."""
    high = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0])
    p = torch.tensor([0.74, 0.31, 0.60, 0.45, 0.12, 0.66, 0.40, 0.24])
    tied = (high, p), (high.flip(0), p.flip(0) - 0.05)
    return [(tied[0], _judged(3, 40)), (tied[1], _judged(4, 30)), (_judged(5, 50), _judged(6, 36))]


tuned = Exercise(
    "9.5",
    "Tune where you may look",
    solution=_tuned,
    cases=_parts,
    mistakes={
        "tuned on test": Mistake(_chosen(lambda v, t: _best(t, t[1].sort().values)),
            "You chose the threshold on the test part, where nobody may look before the end. Choose on validation."),
        "validation's own": Mistake(lambda validation, test: _tuned(validation, validation),
            "That is the F1 on validation, where the threshold was chosen to look well. Score the test part with it."),
        "always a half": Mistake(_chosen(lambda v, t: 0.5),
            "You took 0.5. Try each of validation's own probabilities."),
        "by right calls": Mistake(_chosen(lambda v, t: _best(v, v[1].sort().values, _accuracy)),
            "You chose by the share of right calls. Choose by F1, which you are going to report."),
        "right calls reported": Mistake(lambda validation, test: _tuned(validation, test, score=_accuracy),
            "The threshold is right, but you report the share of right calls. Give back the F1 on the test part."),
        "on both": Mistake(_chosen(lambda v, t: _best(_together(v, t), _together(v, t)[1].sort().values)),
            "You chose on validation and test together. The labels of the test part must not have a say."),
        "thresholds of test": Mistake(_chosen(lambda v, t: _best(v, t[1].sort().values)),
            "You tried the probabilities of the test part. The thresholds to try are validation's own."),
        "same share": Mistake(_chosen(_same_share),
            "You called the same share high as is high in validation. That is another rule: choose the best F1 on validation."),
        "largest": Mistake(_chosen(lambda v, t: _best(v, v[1].sort(descending=True).values)),
            "Several thresholds are equally good, and you took the largest. Take the smallest of them."),
        "first": Mistake(_chosen(lambda v, t: _best(v, v[1])),
            "Several thresholds are equally good, and you took the one that came first. Take the smallest: sort them before."),
        "threshold": Mistake(lambda v, t: _best(v, v[1].sort().values),
            "That is the threshold. One step more: the F1 of the test part at this threshold."),
    },
    success="Tuned on one part, judged on another. This is the F1 that may stand in the report.",
)  # fmt: skip


def _gain(with_made, without, t, middle=torch.mean, spread=lambda a, b: (a - b).std() / len(a) ** 0.5):
    centre, half = middle(with_made - without), t * spread(with_made, without)
    return torch.stack([centre - half, centre, centre + half])


def _gained(**options):
    """A wrong submission with another middle or another spread of it."""
    return lambda *inputs: _gain(*inputs, **options)


def _runs(seed, r, t):
    """Scores of r data sets, hard ones and easy ones, with made ads and without; and Student's t for so many."""
    noise = seeded(seed)
    without = 0.6 + 0.08 * torch.randn(r, generator=noise)
    return without - 0.02 + 0.03 * torch.randn(r, generator=noise), without, t


gain = Exercise(
    "9.2",
    "Is it more than luck?",
    solution=_gain,
    cases=lambda: [_runs(0, 11, 2.228), _runs(2, 5, 2.776)],
    mistakes={
        "unpaired": Mistake(_gained(spread=lambda a, b: ((a.var() + b.var()) / len(a)).sqrt()),
            "You added the spreads of the two lists. Both were scored on the same data sets: take the differences first."),
        "sd with r": Mistake(_gained(spread=lambda a, b: (a - b).std(correction=0) / len(a) ** 0.5),
            "Your standard deviation divides by r. The mean came from the same numbers: divide by r − 1, as `.std()` does."),
        "no root of r": Mistake(_gained(spread=lambda a, b: (a - b).std()),
            "That is how far single data sets scatter. Their mean scatters less: divide by √r."),
        "divided by r": Mistake(_gained(spread=lambda a, b: (a - b).std() / len(a)),
            "You divided by r. The spread of a mean shrinks with the root, √r."),
        "variance": Mistake(_gained(spread=lambda a, b: (a - b).var() / len(a) ** 0.5),
            "You took the variance. The standard deviation is asked for, its root."),
        "sign": Mistake(lambda with_made, without, t: _gain(without, with_made, t),
            "The sign is turned round: a gain is `with_made` minus `without`."),
        "no t": Mistake(lambda with_made, without, t: _gain(with_made, without, 1),
            "The factor t is missing: without it, the interval misses the truth about one time in three."),
        "1.96": Mistake(lambda with_made, without, t: _gain(with_made, without, 1.96),
            "You took 1.96, which is for many data sets. With so few the factor is larger: use `t`."),
        "median": Mistake(_gained(middle=torch.median),
            "That is the median of the differences in the middle. The mean is asked for."),
        "high first": Mistake(lambda *inputs: _gain(*inputs).flip(0),
            "The ends are exchanged: low comes first, then the mean, then high."),
    },
    success="Above 0 all along: a gain. Below 0 all along: a loss. Across 0: undecided, and that is what we say.",
)  # fmt: skip
