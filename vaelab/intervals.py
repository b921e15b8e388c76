"""Is a difference more than luck? Paired intervals, many comparisons at once, and what may be said afterwards.

Arms of an experiment are compared run by run on the same data, so that the luck of a data set cancels. A run counts
once: its thousands of pictures make its score exact, but they do not make it another run.
"""

import numpy as np

from vaelab.metrics import Interval


def paired(differences, confidence=0.95):
    """The mean of paired differences `(n,)` with its Student-t interval, an `Interval` (Student 1908).

    Raises:
        ValueError: for fewer than two runs, from which no spread can be told.
    """
    from scipy.stats import t

    values = checked(differences)
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    half = t.ppf(0.5 + confidence / 2, len(values) - 1) * error
    return Interval(float(mean), float(mean - half), float(mean + half))


def p_value(differences):
    """How often chance alone gives a mean difference as far from 0, two-sided, by Student's t; 1 if all are 0."""
    from scipy.stats import t

    values = checked(differences)
    mean, error = abs(values.mean()), values.std(ddof=1) / np.sqrt(len(values))
    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(mean / error, len(values) - 1))


def checked(differences):
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"An interval needs the finite differences of at least 2 runs; got {values.tolist()}.")
    return values


def holm(p_values):
    """Adjusted p-values of a family of tests `(m,)`: those below 5 % hold together (Holm 1979).

    The k-th smallest of m is multiplied by m + 1 − k, and none may fall below a smaller one's. With 95 % confidence
    none of the tests called significant is so by chance, however the tests depend on each other.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return adjusted


def together(families, confidence=0.95):
    """Intervals of m comparisons, each a list of paired differences, that all hold at once with this confidence.

    These are Bonferroni's: each at 1 − (1 − confidence) / m (Dunn 1961). Holm's steps have no intervals of their own
    that would bound a large effect too; so `holm` decides what is significant, a little more often than these; these
    say how large it is.
    """
    each = 1 - (1 - confidence) / max(1, len(families))
    return [paired(differences, each) for differences in families]


def verdict(interval):
    """What an interval of a gain allows one to say: a win is a lower limit above 0, a loss an upper limit below 0."""
    if interval.low > 0:
        return f"a win of at least {interval.low:+.3f}"
    if interval.high < 0:
        return f"a loss of at least {-interval.high:.3f}"
    return f"no win shown; gains above {interval.high:+.3f} are excluded"


def table(results, reference="nothing", measure="f1_tuned", simultaneous=True):
    """One row an arm: mean and spread over runs, and the paired difference to the reference arm of its classifier.

    Args:
        results: `augmentation.Result`s of several seeds, or records of them. The reference of "hog-logistic: smote" is
            "hog-logistic: nothing", where there is such an arm.
        measure: name of a score.
        simultaneous: widen the intervals so that all hold at once (`together`). The p-values are Holm's in any case.

    Returns:
        Records with arm, leaks, n, mean, sd (None for one run), and for arms that share at least two runs with the
        reference: pairs, difference (an `Interval`), p.
    """
    runs, rows, compared = {}, [], {}
    for record in (r if isinstance(r, dict) else r.as_record() for r in results):
        runs.setdefault((record["arm"], record["leaks"]), {})[record["seed"]] = record["scores"][measure]
    for place, ((arm, leaks), scores) in enumerate(runs.items()):
        own = (f"{arm.partition(': ')[0]}: {reference}", False)
        base = own if own in runs else (reference, False)
        gains = [scores[seed] - runs[base][seed] for seed in scores if seed in runs.get(base, {})]
        if len(gains) > 1 and base != (arm, leaks):
            compared[place] = gains
        values = np.array(list(scores.values()))
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        rows.append({"arm": arm, "leaks": leaks, "n": len(values), "mean": float(values.mean()), "sd": sd})
    found = together(compared.values()) if simultaneous else [paired(gains) for gains in compared.values()]
    adjusted = holm([p_value(gains) for gains in compared.values()])
    for place, interval, p in zip(compared, found, adjusted, strict=True):
        rows[place] |= {"pairs": len(compared[place]), "difference": interval, "p": float(p)}
    return rows
