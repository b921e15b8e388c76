"""Who calls an ad high: a small convolutional network, and linear judges of features, each fitted and asked in one go.

`cnn` sees pictures. `linear` sees a table of features: `hog_colours` of the pictures, or the addresses that a VAE gives
them. Both take the training part and several sets to be judged, and return one array of probabilities for each. All
that changes the training part, scaling and resampling, happens inside the fit and never sees what is judged. `scored`
says how good the probabilities are.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vaelab.models import choose
from vaelab.training import Batches, as_floats, check_pictures, cosine, stream

NORMS = {"batch": nn.BatchNorm2d, "group": lambda width: nn.GroupNorm(4, width)}
AUGMENTS = ("none", "flip+shift")


def network(channels=3, norm="batch"):
    """Pictures `(N, C, H, W)` -> one logit each, `(N, 1)`: three convolutions, 12-24-48 channels wide."""
    layers, before = [], channels
    for width, kernel, stride in ((12, 5, 2), (24, 3, 2), (48, 3, 2)):
        layers += [nn.Conv2d(before, width, kernel, stride, kernel // 2), NORMS[norm](width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 1))


def flip_and_shift(x, random):
    """Each picture mirrored or not, the whole batch `(N, C, H, W)` moved by up to a sixteenth of its width."""
    mirrored = torch.rand(len(x), generator=random) < 0.5
    x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
    (high, wide), reach = x.shape[2:], x.shape[3] // 16
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=random).tolist()
    return F.pad(x, [reach] * 4, mode="replicate")[:, :, down : down + high, right : right + wide]


@torch.enable_grad()  # a notebook may have turned it off
def cnn(pictures, labels, judged, *, seed=0, steps=300, batch_size=32, augment="none", positive_weight=1.0,
        norm="batch", device=None):  # fmt: skip
    """Trains `network` and asks it: probabilities of "high" for each set of `judged`, a list of arrays `(M,)`.

    AdamW (2e-3, weight decay 1e-2) with a cosine; the same number of steps whatever the number of pictures.

    Args:
        pictures: `(N, C, H, W)` in [0, 1].
        labels: `(N,)`, 0 or 1.
        judged: list of pictures `(M, C, H, W)`.
        augment: "none", or "flip+shift" (`flip_and_shift`) of every training batch.
        positive_weight: how many times a high ad counts in the loss.
        norm: "batch" or "group".
    """
    check_pictures(pictures)
    check_labels(pictures, labels)
    if augment not in AUGMENTS or norm not in NORMS:
        raise ValueError(f"augment is one of {AUGMENTS} and norm of {tuple(NORMS)}; got {augment!r} and {norm!r}.")
    device, random = torch.device(device or "cpu"), torch.Generator().manual_seed(stream(seed, "moves"))
    batches = Batches(pictures, batch_size, stream(seed, "order"))
    labels, weight = torch.as_tensor(labels).float(), torch.tensor(float(positive_weight), device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream(seed, "network"))  # weights, on the CPU, and dropout
        model = network(pictures.shape[1], norm).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
        for step in range(steps):
            batch = batches(step)
            x = as_floats(pictures[batch], device) - 0.5
            x = flip_and_shift(x, random) if augment == "flip+shift" else x
            optimizer.param_groups[0]["lr"] = 2e-3 * cosine(step, steps)
            loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], labels[batch].to(device), pos_weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        asked = [torch.cat([model(as_floats(x, device) - 0.5)[:, 0].cpu() for x in s.split(500)]) for s in judged]
    return [logits.double().sigmoid().numpy() for logits in asked]


def check_labels(rows, labels):
    """Refuses labels that are not one 0 or 1 a row, or all the same."""
    values = torch.as_tensor(labels)
    if values.shape != (len(rows),) or not bool(((values == 0) | (values == 1)).all()) or len(values.unique()) < 2:
        found = f"{len(values)}, of {values.unique().tolist()[:5]}"
        raise ValueError(f"{len(rows)} pictures need as many labels, 0 or 1 and some of both; got {found}.")


def hog_colours(pictures):
    """What one would measure without a network, `(N, d)`: histograms of edge directions (Dalal & Triggs 2005), of
    colours, and the mean colours of a 4×4 grid. Edges are taken in a 4×4 grid of cells at any size."""
    from skimage.feature import hog

    check_pictures(pictures)
    cell = tuple(side // 4 for side in pictures.shape[2:])
    planes = pictures.permute(0, 2, 3, 1).numpy()
    edges = [hog(p, orientations=8, pixels_per_cell=cell, cells_per_block=(2, 2), channel_axis=2) for p in planes]
    shades = (pictures.flatten(2) * 8).long().clamp(0, 7)
    histograms = F.one_hot(shades, 8).float().mean(2).flatten(1)
    grid = F.adaptive_avg_pool2d(pictures, 4).flatten(1)
    return np.concatenate([np.stack(edges), histograms.numpy(), grid.numpy()], 1)


def smote(n, positives, seed):
    """imbalanced-learn's SMOTE that adds `n` to the `positives` there are (Chawla et al. 2002)."""
    from imblearn.over_sampling import SMOTE

    return SMOTE(sampling_strategy={1: positives + n}, k_neighbors=min(5, positives - 1), random_state=seed)


def add_noisy(rows, labels, n, noise, seed):
    """A table and labels with `n` rows of class 1 added, drawn with noise of this spread around those there are."""
    random = np.random.default_rng(seed)
    source = random.choice(np.flatnonzero(labels == 1), n)
    added = rows[source] + noise * random.standard_normal((n, rows.shape[1]))
    return np.concatenate([rows, added]), np.concatenate([labels, np.ones(n, dtype=labels.dtype)])


def pipeline(kind, resample="none", n=0, positives=0, balanced=False, seed=0):
    """Scaling, resampling, judge, in imblearn's Pipeline: resampling happens in `fit` only, never in `predict`."""
    from imblearn import FunctionSampler
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import Pipeline
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    weights = "balanced" if balanced else None
    judges = {"logistic": LogisticRegression(C=0.01, class_weight=weights, max_iter=1000)}  # C: chosen on other seeds
    judges["svm"] = LinearSVC(C=0.001, class_weight=weights, random_state=seed, max_iter=5000)
    resamplers = {"none": lambda: "passthrough", "smote": lambda: smote(n, positives, seed)}
    resamplers |= {
        "duplicates": lambda: RandomOverSampler(sampling_strategy={1: positives + n}, random_state=seed),
        "noise": lambda: FunctionSampler(func=add_noisy, kw_args={"n": n, "noise": 0.5, "seed": seed}),
    }
    judge, added = choose("linear judge", kind, judges), choose("resampling", resample, resamplers)()
    return Pipeline([("scale", StandardScaler()), ("resample", added), ("judge", judge)])


def linear(features, labels, judged, *, kind="logistic", resample="none", n=0, balanced=False, seed=0):
    """Fits a linear judge and asks it: probabilities of "high" for each table of `judged`, a list of arrays `(M,)`.

    Args:
        features: `(N, d)` array.
        labels: `(N,)`, 0 or 1.
        kind: "logistic", or "svm", whose decision values pass a logistic curve: 0.5 where it is undecided, and no
            calibrated probability.
        resample: how `n` rows of class 1 are added: "none", "duplicates", "smote", "noise".
        balanced: class weights that make both classes count alike.
    """
    check_labels(features, labels)
    labels = np.asarray(labels).astype(int)
    made = pipeline(kind, resample, n, int(labels.sum()), balanced, seed)
    fitted = made.fit(np.asarray(features, dtype=float), labels)
    decisions = [fitted.decision_function(np.asarray(rows, dtype=float)) for rows in judged]
    return [1 / (1 + np.exp(-np.clip(values, -500, 500))) for values in decisions]


# -- scores -----------------------------------------------------------------------------------------------------------


def f1(labels, called):
    """The balance of precision and recall: 2·hits / (called + high); 0 where nothing is called or nothing high."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, called, zero_division=0))


def all_positive_f1(share):
    """The F1 of calling everything high, where a `share` is: what any score has to be held against."""
    return 2 * share / (1 + share)


def best_threshold(labels, probabilities):
    """The threshold of the highest F1 (the lowest of several), among the values that occur: called if p >= it."""
    order = np.argsort(probabilities, kind="stable")
    p, y = np.asarray(probabilities)[order], np.asarray(labels)[order].astype(float)
    hits, called = np.cumsum(y[::-1])[::-1], np.arange(len(p), 0, -1)
    first = np.concatenate([[True], p[1:] > p[:-1]])  # equal probabilities are called together
    return float(p[np.where(first, 2 * hits / (called + y.sum()), -1).argmax()])


def calibration_error(labels, probabilities, bins=10):
    """Expected calibration error: |share high − mean probability| of ten equal bins, weighted (Guo et al. 2017)."""
    labels, p = np.asarray(labels).astype(float), np.asarray(probabilities, dtype=float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = np.bincount(place, labels, bins) - np.bincount(place, p, bins)
    return float(np.abs(gaps).sum() / len(p))


def scored(train, validation, test, tuned=False):
    """All scores of a classifier, a flat dict; each argument is (labels, probabilities) of one part.

    The threshold comes from the validation part. Without prefix: test part. `tuned`: "f1" and "called" at that
    threshold instead of 0.5.
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    threshold, (seen, q), (labels, p) = best_threshold(*validation), validation, test
    cut = threshold if tuned else 0.5
    scores = {
        "f1": f1(labels, p >= cut), "threshold": threshold, "f1_tuned": f1(labels, p >= threshold),
        "pr_auc": average_precision_score(labels, p), "roc_auc": roc_auc_score(labels, p),
        "brier": brier_score_loss(labels, p), "calibration_error": calibration_error(labels, p),
        "called": np.mean(p >= cut), "validation_f1": f1(seen, q >= cut),
        "validation_f1_tuned": f1(seen, q >= threshold), "validation_pr_auc": average_precision_score(seen, q),
        "train_pr_auc": average_precision_score(*train),
    }  # fmt: skip
    return {name: float(value) for name, value in scores.items()}
