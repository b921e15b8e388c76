"""Exercises that answer at once, and know the usual mistakes by name.

A chapter's module holds its exercises as module-level names; a notebook calls them with the reader's answer::

    # vaelab/exercises/chapter3.py
    def _kl(mean, log_variance):
        return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)

    def _without_half(mean, log_variance):
        return 2 * _kl(mean, log_variance)

    kl = Exercise(
        "3.1", "The price of a tidy address",
        solution=_kl,
        cases=lambda: [(torch.randn(4, 2, generator=seeded(0)), torch.randn(4, 2, generator=seeded(1)))],
        mistakes={"missing half": Mistake(_without_half, "Twice too large: the ½ in front is missing.")},
        success="Your KL agrees with the closed form.",
    )

    # the notebook
    from vaelab.exercises import chapter3 as check
    check.kl(my_kl)
"""

import html
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["Exercise", "Mistake", "Verdict", "difference", "same", "seeded"]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer we expect: what a reader would submit, and the sentence that names it."""

    submission: Any
    message: str


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check says: `passed`, the key of the recognised `mistake` (or None), and the `message`."""

    title: str
    passed: bool
    message: str
    mistake: str | None = None

    def __repr__(self):
        return f"{'✓' if self.passed else '✗'} {self.title}. {self.message}".rstrip()

    def _repr_html_(self):
        colour, mark = ("#2f855a", "✓") if self.passed else ("#b7791f", "→")
        return (
            f'<div role="status" style="border-left:4px solid {colour};border-radius:6px;padding:.6em .9em;'
            f'margin:.4em 0;background:{colour}18;line-height:1.5">'
            f'<strong style="color:{colour}">{mark}</strong> <strong>{html.escape(self.title)}</strong><br>'
            f"{html.escape(self.message)}</div>"
        )


@dataclass(frozen=True)
class Exercise:
    """One exercise: call it with an answer and it shows a verdict.

    solution   the reference: a function if `cases` is given, else a value.
    mistakes   name -> Mistake. An answer with the same numbers as a mistake's submission gets its message.
    cases      returns a list of argument tuples. Called afresh for every run, so that generators start anew
               and nobody's in-place operation reaches the next run.
    tolerance  relative and absolute, for numbers.
    success    one sentence shown with the tick.
    check      where many answers are right: `check(answer)` replaces the comparison with `solution` and
               returns None (right), the name of a mistake, or a sentence.
    """

    number: str
    title: str
    solution: Any
    mistakes: Mapping[str, Mistake] = field(default_factory=dict)
    cases: Callable[[], list[tuple]] | None = None
    tolerance: float = 1e-4
    success: str = "That is right."
    check: Callable[[Any], str | None] | None = None

    def __call__(self, answer) -> None:
        """Show the verdict on `answer`; never raises for a wrong one."""
        verdict = self.judge(answer)
        try:
            from IPython.display import display
        except ImportError:
            display = print
        display(verdict)

    def judge(self, answer) -> Verdict:
        """The verdict on `answer`, shown to nobody."""
        heading = f"Exercise {self.number}, {self.title}"
        try:
            finding = self._find(answer)
        except NotImplementedError:
            finding = "Nothing written yet: replace the stub with your own lines and run the cell again."
        except Exception as error:  # noqa: BLE001 - a learner's code may raise anything; explain it
            finding = _explain(error, answer)
        if finding is None:
            return Verdict(heading, True, self.success)
        if finding in self.mistakes:
            return Verdict(heading, False, self.mistakes[finding].message, finding)
        return Verdict(heading, False, finding)

    def _find(self, answer) -> str | None:
        if answer is None or answer is ...:
            raise NotImplementedError
        if self.check is not None:
            with _quiet():
                return self.check(answer)
        if self.cases is not None and not callable(answer):
            return f"A function is expected here, and this is {_a(answer)}: pass its name without brackets."
        got, expected = self._run(answer), self._run(self.solution)
        finding = _first_difference(got, expected, self.tolerance, named=self.cases is not None)
        return finding and (self._recognise(got) or finding)

    def _run(self, answer) -> list:
        if self.cases is None:
            return [answer]
        with _quiet():
            return [answer(*arguments) for arguments in self.cases()]

    def _recognise(self, got: list) -> str | None:
        for name, mistake in self.mistakes.items():
            wrong = self._run(mistake.submission)
            if all(same(a, b, self.tolerance) for a, b in zip(got, wrong, strict=True)):
                return name
        return None


def seeded(seed: int) -> torch.Generator:
    """A fresh CPU generator with this seed, for the inputs of a case."""
    return torch.Generator().manual_seed(seed)


def same(got, expected, tolerance: float = 1e-4) -> bool:
    """Whether two answers agree; numbers within `tolerance`, whatever kind of array holds them."""
    return difference(got, expected, tolerance) is None


def difference(got, expected, tolerance: float = 1e-4) -> str | None:
    """One sentence on how `got` differs from `expected` (numbers, arrays, tuples, strings), or None."""
    if got is None or got is ...:
        return "Nothing came back: the lines are not written yet, or the `return` is missing."
    if isinstance(expected, str):
        equal = isinstance(got, str) and got.strip().casefold() == expected.strip().casefold()
        return None if equal else f"Not this one: {_a(got)} is not the answer looked for."
    if isinstance(expected, tuple):
        return _difference_of_tuples(got, expected, tolerance)
    return _difference_of_numbers(got, _numbers(expected), tolerance)


def _difference_of_tuples(got, expected: tuple, tolerance: float) -> str | None:
    if not isinstance(got, tuple | list) or len(got) != len(expected):
        return f"Expected {len(expected)} results, got {_a(got)}."
    for position, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
        finding = difference(one, other, tolerance)
        if finding:
            return f"Result {position} of {len(expected)}: {finding}"
    return None


def _difference_of_numbers(got, expected: np.ndarray, tolerance: float) -> str | None:
    try:
        numbers = _numbers(got)
    except (TypeError, ValueError):
        return f"Expected {_shape(expected)}, got {_a(got)}."
    if numbers.shape != expected.shape:
        return f"Expected {_shape(expected)}, got {_shape(numbers)}."
    if np.isnan(numbers).any() and not np.isnan(expected).any():
        return "There is a NaN in your result: a logarithm or root of something negative, or 0/0."
    if np.allclose(numbers, expected, rtol=tolerance, atol=tolerance):
        return None
    return _describe_gap(numbers, expected)


def _describe_gap(numbers: np.ndarray, expected: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):  # inf - inf
        worst = np.unravel_index(np.abs(numbers - expected).argmax(), expected.shape)
    place = f" at position {', '.join(map(str, worst))}" if expected.shape else ""
    sentence = f"Expected {expected[worst]:.4g}{place}, got {numbers[worst]:.4g}."
    factor = numbers[worst] / expected[worst] if expected[worst] else 0.0
    if expected.size > 1 and factor and np.allclose(numbers, factor * expected, rtol=1e-3, atol=1e-6):
        sentence += f" All your numbers are {factor:.4g} times the expected ones."
    return sentence


def _first_difference(got: list, expected: list, tolerance: float, named: bool) -> str | None:
    for case, (one, other) in enumerate(zip(got, expected, strict=True), start=1):
        finding = difference(one, other, tolerance)
        if finding:
            return f"On test input {case}: {finding}" if named and len(got) > 1 else finding
    return None


def _numbers(value) -> np.ndarray:
    """A number, tensor, array or nested list as a float64 array."""
    if isinstance(value, str):
        raise TypeError("text is not a number")
    if isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value):
        value = torch.stack([torch.as_tensor(v) for v in value])
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to(torch.float64)
    return np.asarray(value, dtype=np.float64)


def _shape(numbers: np.ndarray) -> str:
    return f"numbers of shape {numbers.shape}" if numbers.shape else "a single number"


def _a(value) -> str:
    """What kind of thing this is, in words."""
    if isinstance(value, str):
        return f"“{value}”"
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"numbers of shape {tuple(value.shape)}"
    if isinstance(value, bool | int | float):
        return f"the number {value:.4g}"
    return "a function" if callable(value) else f"something of type {type(value).__name__}"


def _explain(error: Exception, answer) -> str:
    """One sentence for an exception in a learner's function, with its line where we can tell."""
    code = getattr(answer, "__code__", None)
    frames = traceback.walk_tb(error.__traceback__)
    lines = [number - code.co_firstlineno + 1 for frame, number in frames if code and frame.f_code is code]
    where = f" in line {lines[-1]} of your function" if lines else ""
    words = re.sub(r" at 0x[0-9a-f]+", "", str(error)).strip().split("\n")[0].rstrip(".")
    return f"Your code stopped with {type(error).__name__}{where}: {words or 'no further message'}."


class _quiet:
    """Seed torch's global generator for a run, and put its state back after: a check changes nothing."""

    def __enter__(self):
        self._state = torch.get_rng_state()
        torch.manual_seed(0)

    def __exit__(self, *_):
        torch.set_rng_state(self._state)
