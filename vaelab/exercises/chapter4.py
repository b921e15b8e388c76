"""Exercises of chapter 4: paths from one picture to another, where they turn, and arithmetic with addresses."""

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _addresses(count, d, seed):
    """`count` addresses `(d,)` of different lengths, all below 1."""
    z = torch.randn(count, d, generator=seeded(seed))
    return (z / z.norm(dim=1, keepdim=True) * torch.linspace(0.5, 0.9, count)[:, None]).unbind()


def _line(a, b, t):
    return a + t[:, None] * (b - a)


path = Exercise(
    "4.1",
    "The straight way",
    solution=lambda a, b, steps: _line(a, b, torch.linspace(0, 1, steps)),
    cases=lambda: [(*_addresses(2, 5, 0), 9), (*_addresses(2, 3, 1), 4)],
    mistakes={
        "ends left out": Mistake(lambda a, b, steps: _line(a, b, torch.linspace(0, 1, steps + 2)[1:-1]),
            "Both ends are missing: the first address is to be a itself, the last one b."),
        "last one missing": Mistake(lambda a, b, steps: _line(a, b, torch.arange(steps) / steps),
            "You never arrive: `arange(steps) / steps` stops one step short of 1. `linspace(0, 1, steps)` has both ends."),
        "one too many": Mistake(lambda a, b, steps: _line(a, b, torch.linspace(0, 1, steps + 1)),
            "One address too many: `steps` counts the addresses, not the gaps between them."),
        "wrong way round": Mistake(lambda a, b, steps: _line(b, a, torch.linspace(0, 1, steps)),
            "You walk from b to a. At t = 0 there must be all of a and nothing of b."),
        "average": Mistake(lambda a, b, steps: ((a + b) / 2).expand(steps, -1),
            "That is the middle, again and again: the share of b has to grow from 0 to 1."),
        "a kept whole": Mistake(lambda a, b, steps: a + torch.linspace(0, 1, steps)[:, None] * b,
            "You add more and more of b and keep all of a. As b comes in, a has to go: the weights are 1 − t and t."),
        "on its side": Mistake(lambda a, b, steps: _line(a, b, torch.linspace(0, 1, steps)).T,
            "Rows and columns are exchanged: one row for each address, `t[:, None]` instead of `t`."),
    },
    success="Nine addresses, nine pictures: give them to the decoder.",
)  # fmt: skip


def _crossing(consistency, freshness, last=False):
    """Index before the crossing, counted from 0, and the share of the way to the next step."""
    gap = consistency - freshness
    found = ((gap[:-1] > 0) & (gap[1:] <= 0)).nonzero()[:, 0]
    before = int(found[-1] if last else found[0])
    return before, float(gap[before] / (gap[before] - gap[before + 1]))


def _curves():
    """Two curves that cross once, and two that cross three times."""
    once = torch.tensor([0.95, 0.9, 0.8, 0.62, 0.4, 0.2, 0.1]), torch.tensor([0.05, 0.1, 0.2, 0.35, 0.71, 0.9, 0.92])
    thrice = torch.tensor([0.9, 0.8, 0.42, 0.6, 0.3, 0.2]), torch.tensor([0.1, 0.35, 0.47, 0.5, 0.8, 0.9])
    return [once, thrice]


blend_point = Exercise(
    "4.2",
    "Where the balance tips",
    solution=lambda consistency, freshness: 1 + sum(_crossing(consistency, freshness)),
    cases=_curves,
    mistakes={
        "counted from 0": Mistake(lambda consistency, freshness: sum(_crossing(consistency, freshness)),
            "You counted the steps from 0. For the art director the first picture is step 1: add 1."),
        "step before": Mistake(lambda consistency, freshness: 1 + _crossing(consistency, freshness)[0],
            "That is the last step before they cross. The crossing lies between two steps: go the share of the way."),
        "step after": Mistake(lambda consistency, freshness: 2 + _crossing(consistency, freshness)[0],
            "That is the first step after they cross. The crossing lies between two steps: go the share of the way."),
        "nearest step": Mistake(lambda consistency, freshness: 1 + (consistency - freshness).abs().argmin(),
            "That is the step where the two are nearest, a whole number. Between two steps both are straight lines: "
            "find where these meet."),
        "halfway": Mistake(lambda consistency, freshness: 1.5 + _crossing(consistency, freshness)[0],
            "You always took the middle between two steps. The larger gap pulls: before ÷ (before − after) of the way."),
        "share from behind": Mistake(
            lambda consistency, freshness: 2 + _crossing(consistency, freshness)[0] - _crossing(consistency, freshness)[1],
            "You went the share of the way from the wrong end: it is the gap *before* over the sum of both gaps."),
        "last crossing": Mistake(lambda consistency, freshness: 1 + sum(_crossing(consistency, freshness, last=True)),
            "They cross more than once, and you took the last time. The blend point is the first."),
        "largest sum": Mistake(lambda consistency, freshness: 1 + (consistency + freshness).argmax(),
            "You looked for the largest sum. One that is all brand and no campaign can have it; asked is the balance."),
        "half of one": Mistake(
            lambda consistency, freshness: 1 + sum(_crossing(consistency, torch.full_like(freshness, 0.5))),
            "You looked where the consistency falls below one half. The other curve decides as well."),
        "share of the way": Mistake(
            lambda consistency, freshness: sum(_crossing(consistency, freshness)) / (len(consistency) - 1),
            "That is a share from 0 to 1; asked is the step, counted from 1."),
    },
    success="A step such as 4.7: between the fourth and the fifth picture, nearer to the fifth.",
)  # fmt: skip


def _angle(a, b):
    return torch.acos((a @ b) / (a.norm() * b.norm()))


def _turned(a, b, t, angle):
    """Shoemake's formula; for unit vectors it stays on the sphere."""
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _length(a, b, t):
    return (1 - t) * a.norm() + t * b.norm()


def _slerp(a, b, t, angle=_angle, length=_length):
    return _turned(a / a.norm(), b / b.norm(), t, angle(a, b)) * length(a, b, t)


slerp = Exercise(
    "4.3",
    "Round the corner instead of through the middle",
    solution=_slerp,
    cases=lambda: [(*_addresses(2, 8, 2), 0.25), (*_addresses(2, 3, 3), 0.6)],
    mistakes={
        "straight line": Mistake(lambda a, b, t: (1 - t) * a + t * b,
            "That is the straight line, which cuts through the middle of the cloud. Turn the direction instead."),
        "raw vectors": Mistake(lambda a, b, t: _turned(a, b, t, _angle(a, b)),
            "You turned a and b themselves. Turn the directions a/‖a‖ and b/‖b‖, and give the result its length after."),
        "length 1": Mistake(lambda a, b, t: _slerp(a, b, t, length=lambda *_: 1.0),
            "The direction is right, but its length is 1 everywhere. Multiply by (1 − t)·‖a‖ + t·‖b‖."),
        "length of a": Mistake(lambda a, b, t: _slerp(a, b, t, length=lambda a, b, t: a.norm()),
            "You kept the length of a, and never arrive at b. The length goes evenly from ‖a‖ to ‖b‖."),
        "no division": Mistake(lambda a, b, t: _slerp(a, b, t) * torch.sin(_angle(a, b)),
            "The division by sin(angle) is missing."),
        "cosine for angle": Mistake(lambda a, b, t: _slerp(a, b, t, angle=lambda a, b: torch.cos(_angle(a, b))),
            "You put the cosine where the angle belongs: `torch.acos` makes the angle of it."),
        "degrees": Mistake(lambda a, b, t: _slerp(a, b, t, angle=lambda a, b: torch.rad2deg(_angle(a, b))),
            "Your angle is in degrees; `torch.sin` wants what `torch.acos` gives."),
        "angle of raw vectors": Mistake(lambda a, b, t: _slerp(a, b, t, angle=lambda a, b: torch.acos(a @ b)),
            "The cosine is the product of the two *directions*: divide a and b by their lengths before `torch.acos`."),
        "wrong way round": Mistake(lambda a, b, t: _slerp(a, b, 1 - t), "At t = 0 you stand at b: exchange the two weights."
        ),
        "straight direction": Mistake(
            lambda a, b, t: torch.nn.functional.normalize((1 - t) * a + t * b, dim=0) * _length(a, b, t),
            "You took the straight line and corrected its length: its direction turns unevenly, fastest in the middle."),
    },
    success="The direction turns evenly, the length changes evenly.",
)  # fmt: skip


def _steps(features):
    return features.diff(dim=0).norm(dim=1)


def _walks():
    """Features along two paths: one that jumps in the middle, one that never stops wandering."""
    jump = torch.linspace(0, 1, 9)[:, None] * torch.ones(6) + (torch.arange(9) >= 5)[:, None] * torch.ones(6)
    wander = torch.randn(7, 4, generator=seeded(4)).cumsum(0)
    return [(jump + 0.05 * torch.randn(9, 6, generator=seeded(5)),), (wander,)]


roughness = Exercise(
    "4.4",
    "How rough is the way?",
    solution=lambda features: _steps(features).max() / _steps(features).mean(),
    cases=_walks,
    mistakes={
        "squared": Mistake(lambda features: _steps(features).square().max() / _steps(features).square().mean(),
            "Your steps are squared: a step twice as long would count four times. Take the square root first."),
        "from the start": Mistake(
            lambda features: (features - features[0]).norm(dim=1)[1:].max() / (features - features[0]).norm(dim=1)[1:].mean(),
            "You measured how far each picture is from the first one. A step goes from one picture to the next."),
        "over the smallest": Mistake(lambda features: _steps(features).max() / _steps(features).min(),
            "You divided by the smallest step: a single pause would make any way look rough. Divide by the mean."),
        "over the median": Mistake(lambda features: _steps(features).max() / _steps(features).median(),
            "You divided by the median step; asked is the mean."),
        "over all pairs": Mistake(lambda features: _steps(features).max() / torch.pdist(features).mean(),
            "You divided by the mean over all pairs. Only neighbours on the way are steps."),
        "closed": Mistake(
            lambda features: (features.roll(-1, 0) - features).norm(dim=1).max() / (features.roll(-1, 0) - features).norm(dim=1).mean(),
            "One step too many: from the last picture back to the first. T pictures have T − 1 steps between them."),
        "over the whole way": Mistake(lambda features: _steps(features).max() / _steps(features).sum(),
            "That is the largest step's share of the whole way; divide by the mean step, not by the sum."),
        "upside down": Mistake(lambda features: _steps(features).mean() / _steps(features).max(),
            "The fraction is upside down: 1 is an even walk, and rougher ways are to give more."),
        "number by number": Mistake(lambda features: features.diff(dim=0).abs().max() / features.diff(dim=0).abs().mean(),
            "You compared single numbers of the features. A step is the length of the whole difference: `norm(dim=1)`."),
    },
    success="1 is an even walk. A large figure is a jump that the client will see.",
)  # fmt: skip


def _direction(codes, mask):
    return codes[mask].mean(0) - codes[~mask].mean(0)


def _archive():
    """An address, codes of an archive in which some have something, and how far to go."""
    cases = []
    for seed, (n, d), amount in ((6, (12, 4), 1.5), (7, (9, 3), -0.7)):
        mask = torch.arange(n) % 3 == 1
        codes = torch.randn(n, d, generator=seeded(seed)) + mask[:, None] * torch.linspace(1, 2, d)
        cases.append((torch.randn(d, generator=seeded(seed + 10)), codes, mask, amount))
    return cases


move = Exercise(
    "4.5",
    "Put the sun on",
    solution=lambda z, codes, mask, amount: z + amount * _direction(codes, mask),
    cases=_archive,
    mistakes={
        "sign": Mistake(lambda z, codes, mask, amount: z - amount * _direction(codes, mask),
            "You walk the other way: it is the mean *with* minus the mean *without*."),
        "from the mean of all": Mistake(lambda z, codes, mask, amount: z + amount * (codes[mask].mean(0) - codes.mean(0)),
            "You compared with the mean of all. Those with it are among them, so the step is too short: take `codes[~mask]`."),
        "sums": Mistake(lambda z, codes, mask, amount: z + amount * (codes[mask].sum(0) - codes[~mask].sum(0)),
            "These are sums: the larger group would win. Take the mean of each."),
        "one pair": Mistake(lambda z, codes, mask, amount: z + amount * (codes[mask][0] - codes[~mask][0]),
            "That is the difference of two single pictures, which differ in everything else as well. Take means."),
        "length 1": Mistake(
            lambda z, codes, mask, amount: z + amount * torch.nn.functional.normalize(_direction(codes, mask), dim=0),
            "You cut the direction to length 1. Leave it, so that amount 1 goes from a typical one without to one with."),
        "without the address": Mistake(lambda z, codes, mask, amount: amount * _direction(codes, mask),
            "That is the step itself. Add it to z, or you move the middle of the map instead of your ad."),
        "towards the mean": Mistake(lambda z, codes, mask, amount: z + amount * (codes[mask].mean(0) - z),
            "You pull the ad towards the typical picture that has it, so everything of its own goes. Add the difference."),
        "no minus": Mistake(lambda z, codes, mask, amount: z + amount * codes[mask].mean(0),
            "You added the mean of those that have it, and so all that ads have in common: take away the mean of the others."),
        "amount forgotten": Mistake(
            lambda z, codes, mask, amount: z + _direction(codes, mask), "You always go one full step: `amount` is not used."
        ),
    },
    success="One direction, any ad: amount 1 puts it on, −1 takes it off.",
)  # fmt: skip
