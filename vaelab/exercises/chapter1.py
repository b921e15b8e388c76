"""Checks of chapter 1: autoencoders and their holes."""

import torch

from vaelab.exercises import Exercise, Mistake, seeded

# 1.1 How many times smaller is a code than its picture?

ratio = Exercise(
    "1.1",
    "How hard do we squeeze?",
    solution=lambda: 64 * 64 * 3 / 128,
    cases=lambda: [()],
    mistakes={
        "no colours": Mistake(
            lambda: 64 * 64 / 128,
            "You counted one number for each pixel. A pixel has three: red, green and blue.",
        ),
        "one side": Mistake(
            lambda: 64 * 3 / 128, "You counted one line of pixels. The picture is 64 pixels wide and 64 high."
        ),
        "upside down": Mistake(
            lambda: 128 / (64 * 64 * 3),
            "That is the share that is kept. Turn the fraction over: how many times smaller is the code?",
        ),
        "difference": Mistake(
            lambda: 64 * 64 * 3 - 128,
            "That is how many numbers fewer. “How many times smaller” asks for a quotient.",
        ),
    },
    success="96 numbers become one. (In bytes, 24: a number of the code takes four bytes, one of a pixel takes one.)",
)


# 1.2 How wrong is each rebuilt picture?


def _error(pictures, rebuilt):
    return (pictures - rebuilt).square().flatten(1).mean(1)


def _error_of_all(pictures, rebuilt):
    return (pictures - rebuilt).square().mean()


def _summed_error(pictures, rebuilt):
    return (pictures - rebuilt).square().flatten(1).sum(1)


def _absolute_error(pictures, rebuilt):
    return (pictures - rebuilt).abs().flatten(1).mean(1)


def _root_error(pictures, rebuilt):
    return _error(pictures, rebuilt).sqrt()


def _error_over_pictures(pictures, rebuilt):
    return (pictures - rebuilt).square().mean(0)


def _signed_error(pictures, rebuilt):
    return (pictures - rebuilt).flatten(1).mean(1)


def _two_batches():
    shapes = [(5, 3, 8, 6), (4, 1, 7, 7)]
    return [(torch.rand(s, generator=seeded(0)), torch.rand(s, generator=seeded(1))) for s in shapes]


error = Exercise(
    "1.2",
    "The error of each picture",
    solution=_error,
    cases=_two_batches,
    mistakes={
        "one number": Mistake(
            _error_of_all,
            "One number for all pictures together. Keep the first axis, so that every picture gets its own.",
        ),
        "sum": Mistake(
            _summed_error,
            "You took the sum over a picture's numbers; the mean belongs here, so that sizes can be compared.",
        ),
        "absolute": Mistake(
            _absolute_error, "You took absolute differences. Square them: one large miss then counts more."
        ),
        "root": Mistake(_root_error, "There is a square root at the end; leave it out."),
        "batch axis": Mistake(
            _error_over_pictures,
            "You averaged over the pictures and kept the pixels: a map of errors. It is to be the other way round.",
        ),
        "signed": Mistake(
            _signed_error,
            "Nothing is squared, so that too dark and too bright cancel. Square each difference.",
        ),
    },
    success="One error for each picture, so you can look for the worst one.",
)


# 1.3 How far is it to the nearest real code?


def _distance(spots, codes):
    return torch.cdist(spots, codes).min(1).values


def _farthest(spots, codes):
    return torch.cdist(spots, codes).max(1).values


def _mean_distance(spots, codes):
    return torch.cdist(spots, codes).mean(1)


def _squared_distance(spots, codes):
    return _distance(spots, codes).square()


def _distance_to_centre(spots, codes):
    return (spots - codes.mean(0)).norm(dim=1)


def _from_the_codes(spots, codes):
    return torch.cdist(spots, codes).min(0).values


def _which(spots, codes):
    return torch.cdist(spots, codes).argmin(1)


def _spots_and_codes():
    sizes = [(6, 9), (20, 4)]
    return [
        (3 * torch.randn(m, 2, generator=seeded(m)), torch.randn(n, 2, generator=seeded(n))) for m, n in sizes
    ]


emptiness = Exercise(
    "1.3",
    "The emptiest spot",
    solution=_distance,
    cases=_spots_and_codes,
    mistakes={
        "farthest": Mistake(
            _farthest, "That is the way to the farthest code. The nearest one decides: take the minimum."
        ),
        "mean": Mistake(
            _mean_distance,
            "You averaged over all codes: a spot between two crowds would look empty in every case. Take the minimum.",
        ),
        "squared": Mistake(_squared_distance, "These are squared distances: the square root is missing."),
        "centre": Mistake(
            _distance_to_centre,
            "That is the way to the middle of the codes. The middle may itself be a hole: ask each code.",
        ),
        "wrong axis": Mistake(
            _from_the_codes,
            "One answer for each code, and one for each spot is wanted: take the minimum over the other axis.",
        ),
        "which": Mistake(_which, "That is which code is nearest. Asked is how far away it is."),
    },
    success="You can now ask any spot of the map how lonely it is.",
)


# 1.4 Which share of the map is hole?


def _to_nearest(features, reference):
    return torch.cdist(features, reference).min(1).values


def _holes(decoded, held_out, reference):
    threshold = _to_nearest(held_out, reference).quantile(0.95)
    return (_to_nearest(decoded, reference) > threshold).float().mean()


def _holes_by_training(decoded, held_out, reference):
    return (_to_nearest(decoded, reference) > _to_nearest(reference, reference).quantile(0.95)).float().mean()


def _good_ground(decoded, held_out, reference):
    return 1 - _holes(decoded, held_out, reference)


def _number_of_holes(decoded, held_out, reference):
    return _holes(decoded, held_out, reference) * len(decoded)


def _holes_by_low_quantile(decoded, held_out, reference):
    threshold = _to_nearest(held_out, reference).quantile(0.05)
    return (_to_nearest(decoded, reference) > threshold).float().mean()


def _holes_by_worst(decoded, held_out, reference):
    return (_to_nearest(decoded, reference) > _to_nearest(held_out, reference).max()).float().mean()


def _map_and_pictures():
    cases = []
    for spread in (1.0, 1.3):
        reference, held_out = torch.randn(60, 3, generator=seeded(2)), torch.randn(40, 3, generator=seeded(3))
        cases.append((spread * torch.randn(50, 3, generator=seeded(4)), held_out, reference))
    return cases


holes = Exercise(
    "1.4",
    "The share of holes",
    solution=_holes,
    cases=_map_and_pictures,
    mistakes={
        "training threshold": Mistake(
            _holes_by_training,
            "Your threshold comes from the training pictures, each of which is its own nearest one: 0 away. "
            "Take the held-out pictures.",
        ),
        "wrong side": Mistake(_good_ground, "That is the share that is no hole: turn the comparison round."),
        "count": Mistake(_number_of_holes, "You counted the holes. Divide by the number of spots."),
        "low quantile": Mistake(
            _holes_by_low_quantile,
            "Only 5 of 100 held-out pictures would pass your threshold. 95 are to pass: quantile 0.95.",
        ),
        "worst picture": Mistake(
            _holes_by_worst,
            "You let the very worst held-out picture set the threshold. One odd picture would then excuse every hole: "
            "take the 0.95 quantile.",
        ),
    },
    success="This is the ruler of the chapter: vaelab.metrics.Coherence.",
)


# 1.5 Predict: more room, fewer holes?

prediction = Exercise(
    "1.5",
    "More numbers, fewer holes?",
    solution=lambda: "falls",
    cases=lambda: [()],
    mistakes={
        "rises": Mistake(
            lambda: "rises",
            "The round trips do get sharper. But a new code is not a round trip: with every number added there is "
            "more room, and the same pictures are to fill it. Run the next cell and compare.",
        ),
        "stays": Mistake(
            lambda: "stays",
            "It would, if the codes filled the cloud we draw from as well as before. They lie on an ever thinner "
            "part of it. Run the next cell and compare.",
        ),
    },
    success="It falls, although the round trip gets better. The next cell measures how fast.",
)
