"""Does making more ads help to tell which ads do well? Experiments that cannot leak, and controls that say why.

An `Experiment` has one data set in three parts that share no picture and no group. `run("noise 0.5")` lets an *arm*
make pictures out of the training part, trains a classifier on both and scores it: threshold and validation score on
the validation part, all else on the test part. What makes pictures gets the training part and a `Context`, nothing
else, and has to say which training pictures each came from. `as_told` and `split_after` do it wrong on purpose, and
their results say so.

The case (chapter 9): 340 of 1,100 ads are high; a VAE turns them into 600 more. `ARMS` holds that recipe, what else one
could do, and the controls: the same number of duplicates, the same classifier again ("a/a"), codes of any ads labelled
high ("placebo"), both classes, and all pictures blurred alike ("one domain").
"""

import time
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vaelab import classifiers, features, latent, models, networks, novelty
from vaelab.data import ads
from vaelab.metrics import nearest
from vaelab.objectives import BetaObjective, Elbo
from vaelab.training import fit, stream

MADE_PER_PICTURE = 600 / 1100  # the brief makes 600 ads from a collection of 1,100
BIG = 2.5  # the VAE of the unlabelled ads is trained for so many times the steps
LATENT, WIDTHS = 128, (16, 32, 64)  # of the VAE
OTHER = 10_000_000  # from a data set's seed to that of its test ads, and on to that of its unlabelled ones


# -- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Pictures and what they are: `pictures` (N, C, H, W) in [0, 1], `labels` (N,) 0 or 1 (int64 tensor).

    `groups` (N,): pictures of one group, say the variants of one motif, never stand on two sides of a split; None: each
    is its own. `files`: their names, if they have any. `data[index]`, of indices `(n,)`, is Labelled again.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    groups: torch.Tensor | None = None
    files: tuple = ()

    def __post_init__(self):
        for name in ("labels", "groups"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.pictures):
                raise ValueError(f"{len(values)} {name} for {len(self.pictures)} pictures: give one for each picture.")
            object.__setattr__(self, name, None if values is None else torch.as_tensor(values).long())

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        files = tuple(self.files[i] for i in index) if self.files else ()
        groups = None if self.groups is None else self.groups[index]
        return Labelled(self.pictures[index], self.labels[index], groups, files)

    def of(self, label):
        """Indices of the pictures with this label."""
        return (self.labels == label).nonzero()[:, 0]


def together(*parts):
    """Several parts (`Labelled` or `Made`) as one, without groups and files."""
    return Labelled(torch.cat([part.pictures for part in parts]), torch.cat([part.labels for part in parts]))


class Split(NamedTuple):
    """Indices of three parts, each `(n,)`, sorted."""

    train: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor


def split(labels, groups=None, shares=(0.6, 0.2, 0.2), seed=0):
    """Cuts N pictures into train, validation and test: a `Split`, alike in labels, no group on two sides.

    Groups are dealt out in random order, the largest first, each to the part that lacks most of what it holds, measured
    by what that part should have of each class.

    Args:
        labels: `(N,)`, 0 or 1.
        groups: `(N,)` ints; None: every picture its own.
        shares: of the three parts; a share of 0 leaves a part empty.
    """
    labels = torch.as_tensor(labels).long()
    groups = torch.arange(len(labels)) if groups is None else torch.as_tensor(groups).long()
    if groups.shape != labels.shape or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"A split needs a group a label and shares that make 1; got {len(groups)} groups, {shares}.")
    _, place = groups.unique(return_inverse=True)
    holds = torch.zeros(int(place.max()) + 1, 2).index_put((place, labels), torch.ones(()), accumulate=True).numpy()
    wanted = np.outer(shares, holds.sum(0))
    order = np.random.default_rng(seed).permutation(len(holds))
    order = order[np.argsort(-holds[order].sum(1), kind="stable")]
    missing, part = wanted.copy(), np.zeros(len(holds), dtype=int)
    for group in order:
        lack = (missing / np.maximum(wanted, 1e-9)) @ holds[group]
        part[group] = np.where(np.array(shares) > 0, lack, -np.inf).argmax()
        missing[part[group]] -= holds[group]
    parts = Split(*(torch.from_numpy(np.flatnonzero(part[place.numpy()] == i)) for i in range(3)))
    for name, share, index in zip(Split._fields, shares, parts, strict=True):
        if share and len(labels[index].unique()) < 2:
            raise ValueError(f"The {name} part lacks one class; give more pictures of each class, or smaller groups.")
    return parts


def check_apart(parts):
    """Refuses parts `{name: Labelled}` of which two share a group or a picture, byte for byte."""
    seen = {}
    for name, part in parts.items():
        groups = [] if part.groups is None else [f"group {group}" for group in part.groups.unique().tolist()]
        for item in groups + fingerprints(part.pictures):
            if seen.setdefault(item, name) != name:
                what = item if isinstance(item, str) else "an identical picture"
                raise ValueError(f"The {seen[item]} and {name} parts share {what}; split by group, take copies out.")


def fingerprints(pictures):
    """The bytes of each picture."""
    return [picture.tobytes() for picture in pictures.contiguous().numpy()]


# -- making pictures -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """Pictures that an arm made, and where they come from.

    `pictures` (n, C, H, W); `labels` (n,); `source` (n, s): indices of the training pictures that each was made from
    (s = 0: drawn from a prior that knows them all); `noise` (n,): its spread in the latent; `seed`; `decoded`: whether
    they come out of a decoder, as all pictures do in a VAE's domain; `nearest` (n,): distance to the nearest training
    picture by `novelty.thumbprint`, which `Experiment.run` fills in.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    source: torch.Tensor
    noise: torch.Tensor
    seed: int
    decoded: bool = True
    nearest: torch.Tensor | None = None

    def __len__(self):
        return len(self.pictures)

    def provenance(self):
        """One record a picture: source, noise, seed, nearest."""
        columns = zip(self.source.tolist(), self.noise.tolist(), self.nearest.tolist(), strict=True)
        return [{"source": s, "noise": z, "seed": self.seed, "nearest": d} for s, z, d in columns]


COLUMNS = ("pictures", "labels", "source", "noise")  # of a `Made`: one entry a picture


def made(pictures, label, source, noise, seed, decoded=True):
    """A `Made` whose pictures share one label and one noise; `source` (n, s)."""
    n, shown = len(pictures), pictures.cpu().clamp(0, 1)
    return Made(shown, torch.full((n,), label), source, torch.full((n,), float(noise)), seed, decoded)


def both(a, b):
    """Two `Made` of one seed as one."""
    return replace(a, **{name: torch.cat([getattr(a, name), getattr(b, name)]) for name in COLUMNS})


class LabelledVAE(models.VAE):
    """A class-conditional VAE (Sohn et al. 2015): encoder and decoder are told the label.

    It is trained on pictures with one more plane, `with_label`, that holds the label; its decoder network takes the
    code and the label, `(N, latent + 1)`.
    """

    def __init__(self, shape):
        encoder = networks.ConvEncoder((shape[0] + 1, *shape[1:]), 2 * LATENT, WIDTHS)
        super().__init__(encoder, networks.ConvDecoder(LATENT + 1, shape, WIDTHS[::-1]), LATENT)

    def decode(self, z, label):
        """Codes `(N, latent)` and labels `(N,)` -> the distribution of the picture `(N, C, H, W)`."""
        return self.likelihood(self.decoder(torch.cat([z, label[:, None].to(z)], 1)))

    def forward(self, x, generator=None):
        posterior = self.encode(x)
        reconstruction = self.decode(posterior.sample(generator), x[:, -1, 0, 0]).log_prob(x[:, :-1])
        kl = posterior.kl_per_dimension()
        return Elbo(reconstruction, kl.sum(1), kl)

    def sample(self, n, label, generator=None):
        """`n` new pictures of one class from the prior, `(n, C, H, W)`."""
        z = self.prior.sample(n, generator, next(self.parameters()).device)
        return self.decode(z, torch.full((n,), float(label), device=z.device)).mean


def with_label(pictures, labels):
    """Pictures with one more plane that is 0 or 1 all over, `(N, C + 1, H, W)`."""
    return torch.cat([pictures, labels.view(-1, 1, 1, 1).expand(-1, 1, *pictures.shape[2:]).to(pictures)], 1)


class Context:
    """What an arm may use beside the training part: how many pictures to make, seeds, and VAEs; nothing held out.

    `unlabelled()` gives pictures of no known label. `seconds`: what each VAE took. `states`: a folder in which each
    VAE leaves its state, so that a Context of the same pictures and settings goes on where it was.
    """

    def __init__(self, train, seed=0, vae_steps=1700, device=None, unlabelled=None, states=None):
        self.train, self.seed, self.vae_steps, self.device = train, seed, vae_steps, torch.device(device or "cpu")
        self.n, self.unlabelled, self.seconds, self._vaes = round(MADE_PER_PICTURE * len(train)), unlabelled, {}, {}
        self.states = states

    def stream(self, *place):
        """A seed for the random numbers of one place."""
        return stream(self.seed, *place)

    def give(self, vae, on="train"):
        """Takes a VAE that was trained already, on what `vae(on)` would be, so that none is."""
        self._vaes[on] = vae.to(self.device)

    def drawn(self, pool=1):
        """Indices of `n` training pictures labelled `pool`, each equally often up to one, and the seed of that."""
        seed, among = self.stream("made"), self.train.of(pool)
        return among[latent.draw_evenly(len(among), self.n, torch.Generator().manual_seed(seed))], seed

    def vae(self, on="train"):
        """A VAE, trained once: on "train", its "positives", the "unlabelled" pictures, or "conditional" on labels."""
        if on not in self._vaes:
            start, shape = time.perf_counter(), tuple(self.train.pictures.shape[1:])
            pictures, steps = self._pictures(on), round(self.vae_steps * (BIG if on == "unlabelled" else 1))
            with torch.random.fork_rng([]):
                torch.manual_seed(self.stream("vae", on))
                model = LabelledVAE(shape) if on == "conditional" else models.vae(shape, LATENT, channels=WIDTHS)
            objective, seed = BetaObjective(warmup=max(1, steps // 4)), self.stream("fit", on)
            kept = {"checkpoint": self.states and Path(self.states) / f"vae-{on}.safetensors"}
            kept |= {"checkpoint_every": min(100, 1 + steps // 10), "progress": False}
            fit(model, pictures, steps=steps, batch_size=16, objective=objective, seed=seed, **kept)
            self._vaes[on] = model.to(self.device)
            self.seconds[on] = round(time.perf_counter() - start, 1)
        return self._vaes[on]

    def _pictures(self, on):
        train, high = self.train, self.train.of(1)
        if on == "unlabelled" and self.unlabelled is None:
            raise ValueError("There are no unlabelled pictures; give the Experiment some for this arm (unlabelled=).")
        known = {"train": lambda: train.pictures, "positives": lambda: train.pictures[high]}
        known |= {"conditional": lambda: with_label(train.pictures, train.labels), "unlabelled": self.unlabelled}
        return models.choose("VAE", on, known)()

    def trip(self, pictures, on="train"):
        """The round trip through a VAE, `(N, C, H, W)` on the CPU."""
        vae = self.vae(on)
        return torch.cat(latent.in_batches(vae, pictures, lambda x: vae.reconstruct(x).cpu())).clamp(0, 1)


def duplicates(train, context):
    """Copies of high ads."""
    source, seed = context.drawn()
    return made(train.pictures[source], 1, source[:, None], 0, seed, decoded=False)


def around(train, context, noise=0.5, pool=1, label=1, n=None, on="train"):
    """The recipe of the brief: codes of training ads plus noise, decoded. `pool`: label of the sources, None: any."""
    among, seed = torch.arange(len(train)) if pool is None else train.of(pool), context.stream("made")
    n = context.n if n is None else n
    pictures, place = latent.neighbourhood(context.vae(on), train.pictures[among], n, noise, seed)
    return made(pictures, label, among[place][:, None], noise, seed)


def both_classes(train, context, noise=0.5):
    """Made ads of both classes, in the training part's proportion."""
    high = round(context.n * float(train.labels.double().mean()))
    return both(around(train, context, noise, n=high), around(train, context, noise, 0, 0, context.n - high))


def with_negatives(train, context, noise=0.5, on="train"):
    """The recipe, and as many round trips of ads that are not high, so that blur says nothing."""
    return both(around(train, context, noise, on=on), around(train, context, 0, 0, 0, on=on))


def posterior_samples(train, context):
    """High ads decoded from a sample of their own posterior; `noise` is its mean spread."""
    source, seed = context.drawn()
    mean, log_variance = latent.posteriors(context.vae(), train.pictures[source])
    spread, noise = (0.5 * log_variance).exp(), torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    pictures = latent.decoded(context.vae(), mean + spread * noise.to(mean))
    return made(pictures, 1, source[:, None], spread.mean(), seed)


def latent_smote(train, context):
    """SMOTE between the codes of high ads, decoded; `source` holds the two ads that each lies between."""
    seed, codes, high = context.stream("made"), latent.codes(context.vae(), train.pictures).cpu(), train.of(1)
    table = classifiers.smote(context.n, len(high), seed).fit_resample(codes.numpy(), train.labels.numpy())[0]
    new = torch.from_numpy(table[len(train) :])
    return made(latent.decoded(context.vae(), new.to(context.device)), 1, high[ends(new, codes[high])], 0, seed)


def ends(points, codes, neighbours=5):
    """Which two `codes` `(N, d)`, one a near neighbour of the other, each point `(n, d)` lies between: `(n, 2)`."""
    apart = torch.cdist(codes.double(), codes.double())
    near = apart.topk(min(neighbours + 1, len(codes)), largest=False).indices[:, 1:]
    pairs = torch.stack([torch.arange(len(codes)).repeat_interleave(near.shape[1]), near.flatten()], 1)
    away = torch.cdist(points.double(), codes.double())
    detour = away[:, pairs[:, 0]] + away[:, pairs[:, 1]] - apart[pairs[:, 0], pairs[:, 1]]
    return pairs[detour.argmin(1)]


def prior_draws(train, context, on="conditional"):
    """Draws from N(0, I), decoded as high ads: by a VAE that is told the label, or one of "positives" only."""
    seed, vae = context.stream("made"), context.vae(on)
    random, told = torch.Generator(context.device).manual_seed(seed), (1,) if on == "conditional" else ()
    with torch.no_grad():
        pictures = vae.sample(context.n, *told, generator=random)
    return made(pictures, 1, torch.zeros(context.n, 0).long(), 1, seed)


def accepted(pictures):
    """Which pictures the factor reader takes for one whole ad with a readable product and background, `(N,)` bool."""
    reader = features.reader()
    read = reader.read(pictures)
    sure = torch.stack([read[name].max(1).values for name in ("product", "background")] + [reader.wholeness(pictures)])
    return (sure > 0.5).all(0)


def reviewed(train, context, noise=1.0, chance=False):
    """Made ads that the reader accepts; with `chance` as many drawn from all, whether accepted or not."""
    everything = around(train, context, noise)
    kept = accepted(everything.pictures).nonzero()[:, 0]
    if chance:
        kept = torch.randperm(len(everything), generator=torch.Generator().manual_seed(everything.seed))[: len(kept)]
    return replace(everything, **{name: getattr(everything, name)[kept] for name in COLUMNS})


# -- one domain ----------------------------------------------------------------------------------------------------


def vae_domain(context, on="train"):
    """A function that sends pictures through the VAE."""
    return partial(context.trip, on=on)


def error(context, change):
    """Mean squared error of a change of the training pictures."""
    return float((change(context.train.pictures) - context.train.pictures).square().mean())


def blur_domain(context):
    """A Gaussian blur with the mean squared error, on the training pictures, of the VAE's round trip."""
    low, high, target = 0.05, 8.0, error(context, context.trip)
    for _ in range(20):
        blur = partial(novelty.soften, sigma=(low + high) / 2)
        low, high = (blur.keywords["sigma"], high) if error(context, blur) < target else (low, blur.keywords["sigma"])
    return blur


def pca_domain(context):
    """Projection on as few principal components as make no larger an error on the training pictures than the VAE."""
    flat = context.train.pictures.flatten(1)
    mean = flat.mean(0)
    _, spread, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    left = (spread.square().sum() - spread.square().cumsum(0)) / flat.numel()  # error with 1, 2, … components
    axes = axes[: int((left > error(context, context.trip)).sum()) + 1]
    return lambda x: ((x.flatten(1) - mean) @ axes.T @ axes + mean).view_as(x).clamp(0, 1)


# -- arms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier.

    `make`: `(train, context) -> Made`, or None; `domain`: `context -> (pictures -> pictures)` for all pictures, also
    those that are judged; `classifier`: "cnn", "cnn-groupnorm", "hog-logistic", "hog-svm", "latent-logistic" or
    "latent-svm";
    `augment`: as in `classifiers.cnn`; `resample`: as in `classifiers.linear`; `balanced`: class weights; `tuned`: F1
    is reported at the threshold from the validation part; `init`: another number is another initialisation.
    """

    name: str
    make: object = None
    domain: object = None
    classifier: str = "cnn"
    augment: str = "none"
    resample: str = "none"
    balanced: bool = False
    tuned: bool = False
    init: int = 0


def check_fits(arm):
    """Refuses an arm with settings that its classifier would leave aside without a word."""
    idle = ("resample",) if arm.classifier.startswith("cnn") else ("make", "domain", "augment")
    given = [one.name for one in fields(arm) if one.name in idle and getattr(arm, one.name) != one.default]
    if given:
        raise ValueError(f"The classifier {arm.classifier!r} does not use {' and '.join(given)}; choose another, or leave that out.")


MOVED, ONE = {"augment": "flip+shift"}, partial(around, noise=1)
BIG_ONE, BIG_DOMAIN = partial(around, noise=1, on="unlabelled"), partial(vae_domain, on="unlabelled")
CNN_ARMS = [
    Arm("nothing"), Arm("a/a", init=1), Arm("threshold", tuned=True), Arm("class weights", balanced=True),
    Arm("duplicates", duplicates), Arm("flip+shift", **MOVED), Arm("flip+shift+duplicates", duplicates, **MOVED),
    *(Arm(f"noise {noise:g}", partial(around, noise=noise)) for noise in (0, 0.25, 0.5, 1, 2)),
    Arm("flip+shift+noise 0.5", around, **MOVED), Arm("posterior samples", posterior_samples),
    Arm("smote in latent", latent_smote), Arm("conditional prior", prior_draws),
    Arm("positives-only prior", partial(prior_draws, on="positives")), Arm("both classes", both_classes),
    Arm("with negatives", with_negatives), Arm("placebo", partial(around, pool=None)),
    Arm("reviewed", reviewed), Arm("reviewed: by chance", partial(reviewed, chance=True)),
    Arm("one domain", None, vae_domain), Arm("one domain+duplicates", duplicates, vae_domain),
    Arm("one domain+noise 1", ONE, vae_domain), Arm("one domain: blur", None, blur_domain),
    Arm("one domain: blur+duplicates", duplicates, blur_domain), Arm("one domain: pca", None, pca_domain),
    Arm("one domain: pca+duplicates", duplicates, pca_domain), Arm("big vae: noise 1", BIG_ONE),
    Arm("big vae: one domain", None, BIG_DOMAIN), Arm("big vae: one domain+duplicates", duplicates, BIG_DOMAIN),
    Arm("big vae: one domain+noise 1", BIG_ONE, BIG_DOMAIN),
]  # fmt: skip
FEATURE_ARMS = {"nothing": {}, "threshold": {"tuned": True}, "class weights": {"balanced": True}}
FEATURE_ARMS |= {kind: {"resample": kind} for kind in ("duplicates", "smote", "noise")}
ARMS = {arm.name: arm for arm in CNN_ARMS}
for judge in ("hog-logistic", "hog-svm", "latent-logistic", "latent-svm"):
    for name, settings in FEATURE_ARMS.items():
        ARMS[f"{judge}: {name}"] = Arm(f"{judge}: {name}", classifier=judge, **settings)
for name in ("nothing", "duplicates", "flip+shift+duplicates", "noise 0.5", "noise 1"):
    ARMS[f"cnn-groupnorm: {name}"] = replace(ARMS[name], name=f"cnn-groupnorm: {name}", classifier="cnn-groupnorm")


@dataclass(frozen=True)
class Result:
    """What one arm scored in one experiment.

    `scores` as in `classifiers.scored`; `leaks`: the arm was allowed to cheat; `predictions`: probabilities of the
    "validation" and "test" part; `made`: what it made, with provenance.
    """

    arm: str
    classifier: str
    seed: int
    scores: dict
    n_train: int
    n_positive: int
    n_made: int
    seconds: float
    leaks: bool = False
    predictions: dict = field(default_factory=dict, repr=False)
    made: Made | None = field(default=None, repr=False)

    def as_record(self, predictions=False):
        """As JSON takes it; `predictions` to four digits, if wanted."""
        record = {name: value for name, value in vars(self).items() if name not in ("predictions", "made")}
        if predictions:
            record["predictions"] = {name: np.round(p, 4).tolist() for name, p in self.predictions.items()}
        return record


# -- experiments ---------------------------------------------------------------------------------------------------


class Experiment:
    """One data set, one split; runs arms, each fitted inside the training part only.

    Args:
        train, validation, test: `Labelled`.
        unlabelled: a function that gives pictures of no known label, for the "big vae" arms.
        steps: of the classifier; `vae_steps`: of each VAE.
        device: for classifiers and VAEs.   states: as in `Context`.

    Raises:
        ValueError: if two parts share a group or an identical picture.
    """

    def __init__(
        self, train, validation, test, seed=0, unlabelled=None, steps=300, device=None, vae_steps=1700, states=None
    ):
        check_apart({"train": train, "validation": validation, "test": test})
        for part in (train, validation, test):
            classifiers.check_labels(part.pictures, part.labels)
        self.train, self.validation, self.test, self.seed, self.steps = train, validation, test, seed, steps
        self.context = Context(train, seed, vae_steps, device, unlabelled and self._apart(unlabelled), states)
        self.factors, self.cut_off, self._done, self._tables = {}, None, {}, {}

    @classmethod
    def from_pictures(cls, data, seed=0, shares=(0.6, 0.2, 0.2), **settings):
        """Of one's own `Labelled` pictures: the test part is cut out of them."""
        return cls(*(data[part] for part in split(data.labels, data.groups, shares, seed)), seed=seed, **settings)

    @classmethod
    def from_ads(cls, seed, size=32, n=1100, positives=None, unlabelled=0, fresh=1500, **settings):
        """A fresh data set of the course's ads: 70 % train, 30 % validation, and `fresh` other ads as test.

        The answer knows the `factors` of each part, by name, and the `cut_off` from which an ad is high.

        Args:
            positives: keep only so many high ads in the training part; all else stays.
            unlabelled: how many other ads there are without labels; they are drawn when an arm asks for them.
        """
        pool = ads.make(n, size, seed)
        other = ads.make(fresh, size, seed + OTHER, cut_off=pool.cut_off)
        data = Labelled(pool.images, torch.from_numpy(pool.high_ctr), torch.arange(n))
        test = Labelled(other.images, torch.from_numpy(other.high_ctr), torch.arange(n, n + fresh))
        train, validation, _ = split(data.labels, data.groups, (0.7, 0.3, 0), seed)
        train = train if positives is None else scarce(train, data.labels, positives, seed)
        more = (lambda: ads.render(ads.sample_factors(unlabelled, seed + 2 * OTHER), size)) if unlabelled else None
        experiment = cls(data[train], data[validation], test, seed, more, **settings)
        experiment.factors = {"train": pool.factors[train.numpy()], "validation": pool.factors[validation.numpy()]}
        experiment.factors["test"], experiment.cut_off = other.factors, pool.cut_off
        return experiment

    def run(self, arm):
        """Runs an `Arm`, or one of `ARMS` by name: a `Result`.

        Raises:
            ValueError: if a made picture names a source outside the training part, or is one of the pictures held out;
                if an arm has settings that its classifier does not use.
        """
        arm, start = models.choose("arm", arm, ARMS) if isinstance(arm, str) else arm, time.perf_counter()
        check_fits(arm)
        key = replace(arm, name="", tuned=False)
        if key not in self._done:
            batch = self.checked(arm.make(self.train, self.context)) if arm.make else None
            self._done[key] = self._judged(arm, self.train, self.validation, batch), batch
        return self._result(arm, *self._done[key], start)

    def as_told(self, noise=0.5):
        """The brief word for word: VAE and made pictures come from all ads there are, the validation part too."""
        start, arm = time.perf_counter(), Arm(f"leaks: as told {noise:g}")
        known, context = self._leaking
        batch = around(known, context, noise)
        return self._result(arm, self._judged(arm, self.train, self.validation, batch), batch, start, leaks=True)

    def split_after(self, noise=0.5):
        """First made, then split: made pictures stand in the validation part while their sources are trained on."""
        start, arm = time.perf_counter(), Arm(f"leaks: split after {noise:g}")
        known, context = self._leaking
        batch, share = around(known, context, noise), len(self.train) / len(known)
        pool = together(known, batch)
        train, validation, _ = split(pool.labels, None, (share, 1 - share, 0), self.seed)
        judged = self._judged(arm, pool[train], pool[validation], None)
        return self._result(arm, judged, batch, start, leaks=True)

    @cached_property
    def _leaking(self):
        """What leaks: the training and the validation part as one, and a `Context` of both."""
        known = together(self.train, self.validation)
        return known, Context(known, self.seed, self.context.vae_steps, self.context.device)

    def _apart(self, unlabelled):
        """`unlabelled`, which refuses to give a picture that is held out."""

        def pictures():
            given = unlabelled()
            unknown = Labelled(given, torch.zeros(len(given)))
            check_apart({"validation": self.validation, "test": self.test, "unlabelled": unknown})
            return given

        return pictures

    def checked(self, batch):
        """A `Made` that is what it says, with distances to the training part filled in."""
        n, source = len(batch), batch.source
        if source.ndim != 2 or {len(getattr(batch, name)) for name in COLUMNS} != {n}:
            raise ValueError(f"{n} made pictures need a label, a row of sources and a noise each.")
        if source.numel() and not (0 <= int(source.min()) and int(source.max()) < len(self.train)):
            raise ValueError(f"A made picture has a source outside the {len(self.train)} training pictures.")
        held_out = {*fingerprints(self.validation.pictures), *fingerprints(self.test.pictures)}
        if not held_out.isdisjoint(fingerprints(batch.pictures)):
            raise ValueError("A made picture is one of the validation or test part; make from the training part only.")
        known = novelty.thumbprint(self.train.pictures)
        return replace(batch, nearest=nearest(novelty.thumbprint(batch.pictures), known).distance if n else batch.noise)

    def _judged(self, arm, train, validation, batch):
        """What the arm's classifier says: (labels, probabilities) of train, validation and test."""
        parts, seed, domain = (train, validation, self.test), self.context.stream("classifier", arm.init), None
        kind, _, how = arm.classifier.partition("-")
        if kind == "cnn":
            domain = arm.domain(self.context) if arm.domain else lambda pictures: pictures
            pictures = [domain(part.pictures) for part in parts]
            learned = replace(train, pictures=pictures[0])
            if batch is not None:
                learned = together(learned, batch if batch.decoded else replace(batch, pictures=domain(batch.pictures)))
            weight = float((train.labels == 0).sum() / (train.labels == 1).sum()) if arm.balanced else 1.0
            found = classifiers.cnn(
                learned.pictures, learned.labels, pictures, seed=seed, steps=self.steps, augment=arm.augment,
                positive_weight=weight, norm="group" if how == "groupnorm" else "batch", device=self.context.device,
            )  # fmt: skip
        else:
            tables, n = self._features(kind), self.context.n
            settings = {"resample": arm.resample, "n": n, "balanced": arm.balanced, "seed": seed}
            found = classifiers.linear(tables[0], train.labels, tables, kind=how, **settings)
        return [(part.labels.numpy(), p) for part, p in zip(parts, found, strict=True)]

    def _features(self, kind):
        """Tables of the three parts, made once: "hog" or "latent"."""
        if kind not in self._tables:
            known = {"hog": classifiers.hog_colours}
            known["latent"] = lambda x: latent.codes(self.context.vae(), x).cpu().numpy()
            self._tables[kind] = [known[kind](part.pictures) for part in (self.train, self.validation, self.test)]
        return self._tables[kind]

    def _result(self, arm, judged, batch, start, leaks=False):
        n_made = len(batch) if batch is not None else self.context.n if arm.resample != "none" else 0
        return Result(
            arm.name, arm.classifier, self.seed, classifiers.scored(*judged, tuned=arm.tuned), len(self.train),
            len(self.train.of(1)), n_made, round(time.perf_counter() - start, 2), leaks,
            {"validation": judged[1][1], "test": judged[2][1]}, batch,
        )  # fmt: skip


def scarce(train, labels, positives, seed):
    """The training indices, sorted, with so many of their high ads, drawn at random."""
    high = train[labels[train] == 1]
    if not 2 <= positives <= len(high):
        raise ValueError(f"The training part has {len(high)} high ads: positives={positives} cannot be kept of them.")
    kept = high[torch.randperm(len(high), generator=torch.Generator().manual_seed(seed))[:positives]]
    return torch.cat([train[labels[train] == 0], kept]).sort().values


def bayes(experiment):
    """Scores of the true probability that an ad is high, given the picture: what one can beat only by luck."""
    if not experiment.factors:
        raise ValueError("Only for the course's own ads is the truth known; make the Experiment with from_ads.")
    truth = [(getattr(experiment, name).labels.numpy(), ads.bayes_score(shown, experiment.cut_off))
             for name, shown in experiment.factors.items()]  # fmt: skip
    return classifiers.scored(*truth)
