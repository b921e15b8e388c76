"""The miniature prompt: what a diffusion model of ads can be told, about twenty words in four slots.

Every word is read off the factors that `ads` draws, so whether a picture obeys its prompt can be measured. `product`,
`theme` and `palette` are the factors of those names; `mood` is how the ground behind the pack is lit and staged, the
factor `background`: flat is "plain", gradient is "spotlit", scene is "scenic".

A prompt is a row of whole numbers, one a slot: 0 where nothing is said, and i for the slot's i-th word, from 1.
"""

import re

import torch

from . import ads

MOODS = {"flat": "plain", "gradient": "spotlit", "scene": "scenic"}
VOCABULARY = {
    "product": ads.PRODUCTS,
    "theme": ads.THEMES,
    "palette": ads.PALETTES,
    "mood": tuple(MOODS[background] for background in ads.BACKGROUNDS),
}
FILLERS = {"a", "an", "the", "of", "in", "on", "at", "for", "with", "and", "ad", "light", "background"}


class UnknownWord(ValueError):
    """A prompt holds a word that the model has never seen."""


def prompt(text):
    """What is asked for, as indices `(slots,)`; slots that are not named stay 0, "unsaid".

    Args:
        text: "a can in summer, ocean, scenic", with the words of `VOCABULARY` in any order, or a dict of them,
            `{"product": "can", "theme": "summer"}`.
    """
    if isinstance(text, str):
        pairs = [(slot_of(word), word) for word in re.findall(r"\w+", text.lower()) if word not in FILLERS]
    else:
        pairs = list(text.items())
    said = dict.fromkeys(VOCABULARY, 0)
    for slot, word in pairs:
        if slot not in VOCABULARY:
            raise UnknownWord(f"There is no slot {slot!r} in a prompt; the slots are {', '.join(VOCABULARY)}.")
        if word not in VOCABULARY[slot]:
            raise UnknownWord(f"{word!r} is not a {slot} of the prompt; choose from {', '.join(VOCABULARY[slot])}.")
        if said[slot]:
            raise ValueError(f"The prompt names two words for the slot {slot}, the second is {word!r}; keep one of them.")
        said[slot] = VOCABULARY[slot].index(word) + 1
    return torch.tensor(list(said.values()))


def slot_of(word):
    """The slot in which a word stands; no word stands in two."""
    for slot, words in VOCABULARY.items():
        if word in words:
            return slot
    known = "; ".join(f"{slot}: {', '.join(words)}" for slot, words in VOCABULARY.items())
    raise UnknownWord(f"The prompt knows no word {word!r}; it knows {known}.")


def words_of(factors):
    """The full prompt of every ad: indices `(N, slots)`, int64, none of them 0."""
    columns = (factors.product, factors.theme, factors.palette, factors.background)
    return torch.stack([torch.as_tensor(column) + 1 for column in columns], dim=1)


def spell(words):
    """Indices `(slots,)` -> "can, summer, ocean, scenic", without the slots that are unsaid."""
    said = zip(VOCABULARY.values(), words.tolist(), strict=True)
    return ", ".join(known[place - 1] for known, place in said if place)
