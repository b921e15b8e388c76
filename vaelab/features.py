"""The rulers: networks that read a picture's factors, and whose features measure distances.

One reads ads, one key visuals on their way to a campaign (`journey-reader`). They are trained on real pictures only
(`python -m vaelab.recipes reader`), and nothing in the course is ever trained on them, so that they cannot be
flattered.
"""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from vaelab import storage
from vaelab.data import ads, journeys
from vaelab.networks import ConvEncoder
from vaelab.storage import CHECKPOINTS

SIZE = 64
FEATURES = 64
CHANNELS = (24, 48, 96, 128)
NUMBERS = ("scale", "contrast", "brightness", "clutter")
HEADS = {name: len(ads.WORDS[name]) for name in ("product", "theme", "background", "position", "headline")}
HEADS |= {name: 2 for name in ("badge", "call_to_action", "face")}
JOURNEY_HEADS = {"product": len(ads.PRODUCTS), "theme": len(journeys.THEMES)}
FACTORS = {"reader": (HEADS, NUMBERS), "journey-reader": (JOURNEY_HEADS, journeys.STYLE)}  # what each one reads


class FactorReader(nn.Module):
    """Pictures `(N, 3, H, W)` in [0, 1] -> features `(N, 64)`, and from them words and numbers.

    Args:
        heads: name -> how many words, for each factor that is one of several words.
        numbers: names of the factors that are numbers.
    """

    def __init__(self, heads=HEADS, numbers=NUMBERS):
        super().__init__()
        self.names = tuple(numbers)
        self.trunk = nn.Sequential(ConvEncoder((3, SIZE, SIZE), FEATURES, CHANNELS), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, count) for name, count in heads.items()})
        self.numbers = nn.Linear(FEATURES, len(numbers))
        self.whole = nn.Linear(FEATURES, 2)
        # Mean and spread of the numbers in the training ads, so that the network works on standard units.
        self.register_buffer("offset", torch.zeros(len(numbers)))
        self.register_buffer("spread", torch.ones(len(numbers)))

    def describe(self, pictures):
        """The features `(N, 64)` that distances are taken in."""
        if pictures.shape[-2:] != (SIZE, SIZE):
            pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.trunk(pictures.clamp(0, 1))

    def forward(self, pictures):
        """Word factors as logits `(N, words)` each, "numbers" `(N, n)` in standard units, "whole" `(N, 2)` as logits."""
        features = self.describe(pictures)
        words = {name: head(features) for name, head in self.heads.items()}
        return words | {"numbers": self.numbers(features), "whole": self.whole(features)}

    @torch.no_grad()
    def wholeness(self, pictures, batch_size=256):
        """Probability that each picture is one ad and not several shining through each other, `(N,)`."""
        return torch.cat([self(part)["whole"].softmax(1)[:, 1] for part in pictures.split(batch_size)])

    @torch.no_grad()
    def read(self, pictures, batch_size=256):
        """What the pictures show: word factors and flags as probabilities `(N, words)`, numbers as values `(N,)`."""
        parts = [self(part) for part in pictures.split(batch_size)]
        read = {name: torch.cat([part[name] for part in parts]).softmax(1) for name in self.heads}
        values = torch.cat([part["numbers"] for part in parts]) * self.spread + self.offset
        return read | dict(zip(self.names, values.T, strict=True))


def targets(factors):
    """An ad's true factors as tensors: `(N,)` int64 per word factor and flag, "numbers" `(N, 4)` as they are."""
    words = {name: torch.from_numpy(getattr(factors, name).astype("int64")) for name in HEADS}
    numbers = [torch.from_numpy(getattr(factors, name).astype("float32")) for name in NUMBERS]
    return words | {"numbers": torch.stack(numbers, 1)}


def journey_targets(way):
    """The same for key visuals: "product" and "theme" `(N,)`, "numbers" `(N, 5)`."""
    words = {name: torch.from_numpy(getattr(way, name)) for name in JOURNEY_HEADS}
    return words | {"numbers": torch.from_numpy(way.style).float()}


def held_out_scores(reader, pictures, truth):
    """How well a reader reads pictures it never saw: accuracy per word factor and flag, R² per number.

    truth: their true factors, from `targets` or `journey_targets`.
    """
    read = reader.read(pictures)
    scores = {name: float((read[name].argmax(1) == truth[name]).float().mean()) for name in reader.heads}
    for i, name in enumerate(reader.names):
        true = truth["numbers"][:, i]
        scores[name] = float(1 - (read[name] - true).square().mean() / true.var(correction=0))
    return scores


@cache
def reader(name="reader"):
    """A trained reader that ships with vaelab: "reader" for ads, "journey-reader" for key visuals on their way."""
    tensors, _ = storage.read(CHECKPOINTS / f"{name}.safetensors")
    trained = FactorReader(*FACTORS[name])
    trained.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return trained.eval()


def reader_scores(name="reader"):
    """Held-out accuracy and R² of a shipped reader, as measured when it was made."""
    return storage.read(CHECKPOINTS / f"{name}.safetensors")[1]["held_out"]


@torch.no_grad()
def describe(pictures, batch_size=256, name="reader"):
    """Features `(N, 64)` of pictures `(N, 3, H, W)`, by a shipped reader."""
    return torch.cat([reader(name).describe(part) for part in pictures.split(batch_size)])
