"""The exercise framework: right variants pass, named mistakes are named, nothing ever escapes."""

import numpy as np
import pytest
import torch

from vaelab.exercises import Exercise, Mistake, difference, same, seeded


def kl(mean, log_variance):
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


KL = Exercise(
    "3.1",
    "The price of an address",
    solution=kl,
    cases=lambda: [(torch.randn(4, 2, generator=seeded(s)), torch.randn(4, 2, generator=seeded(s + 1))) for s in (0, 2)],
    mistakes={
        "sign": Mistake(lambda m, v: -kl(m, v), "The sign is turned round."),
        "mean for sum": Mistake(lambda m, v: kl(m, v) / 2, "A mean stands where the sum belongs."),
        "one number": Mistake(lambda m, v: kl(m, v).sum(), "One number a picture, please."),
    },
    success="Yes.",
)
HALF = Exercise("1.4", "A share", solution=0.5, mistakes={"percent": Mistake(50, "A share, not a percentage.")})


@pytest.mark.parametrize(
    "answer",
    [
        kl,
        lambda m, v: kl(m.double(), v.double()),
        lambda m, v: kl(m, v).numpy(),
        lambda m, v: kl(m, v).tolist(),
        lambda m, v: list(kl(m, v)),
        lambda m, v: kl(m, v).requires_grad_(),
        lambda m, v: kl(m, v) * (1 + 1e-6),
    ],
)
def test_every_right_variant_passes(answer):
    verdict = KL.judge(answer)
    assert verdict.passed and verdict.message == "Yes." and verdict.mistake is None


@pytest.mark.parametrize("answer", [0.5, np.float32(0.5), torch.tensor(0.5), 1 / 2])
def test_right_values_pass(answer):
    assert HALF.judge(answer).passed


@pytest.mark.parametrize("name", KL.mistakes)
def test_named_mistakes_get_their_own_message(name):
    verdict = KL.judge(KL.mistakes[name].submission)
    assert not verdict.passed
    assert (verdict.mistake, verdict.message) == (name, KL.mistakes[name].message)


def stub(mean, log_variance):
    raise NotImplementedError


def ellipsis(mean, log_variance): ...


def broken(mean, log_variance):
    total = mean.sum(1)
    return total + not_defined  # noqa: F821


@pytest.mark.parametrize(
    "answer, words",
    [
        (stub, "Nothing written yet"),
        (ellipsis, "the lines are not written yet, or the `return` is missing"),
        (..., "Nothing written yet"),
        (None, "Nothing written yet"),
        (broken, "NameError in line 3 of your function: name 'not_defined' is not defined."),
        (lambda m: m, "TypeError"),
        (3.0, "pass its name without brackets"),
        (lambda m, v: "text", "Expected numbers of shape (4,), got “text”."),
        (lambda m, v: kl(m, v)[:, None], "Expected numbers of shape (4,), got numbers of shape (4, 1)."),
        (lambda m, v: kl(m, v) / 0 * 0, "NaN"),
        (lambda m, v: 3 * kl(m, v), "All your numbers are 3 times the expected ones."),
        (lambda m, v: kl(m, v) + torch.tensor([0, 0, 1.0, 0]), "at position 2"),
    ],
)
def test_other_answers_get_a_helpful_sentence(answer, words):
    verdict = KL.judge(answer)
    assert not verdict.passed and verdict.mistake is None
    assert words in verdict.message


def test_values_answer_mistakes_and_strangers():
    assert HALF.judge(50).mistake == "percent"
    assert HALF.judge(0.4).message == "Expected 0.5, got 0.4."


def test_cases_start_afresh_and_the_global_generator_is_left_alone():
    def spoil(mean, log_variance):
        mean.zero_()
        torch.rand(3)
        return kl(mean, log_variance)

    before = torch.get_rng_state()
    assert not KL.judge(spoil).passed
    assert KL.judge(kl).passed
    assert torch.equal(before, torch.get_rng_state())


def test_random_answers_meet_the_same_generator_as_the_reference():
    draw = Exercise(
        "2.1",
        "Sample",
        solution=lambda mean, generator: mean + torch.randn(3, generator=generator),
        cases=lambda: [(torch.zeros(3), seeded(5))],
    )
    assert draw.judge(lambda mean, generator: torch.randn(3, generator=generator) + mean).passed
    assert not draw.judge(lambda mean, generator: mean + torch.rand(3, generator=generator)).passed


def test_own_check_returns_nothing_a_mistake_or_a_sentence():
    def judge_beta(beta):
        if beta > 1:
            return "too tidy"
        return None if 0.1 < beta else f"β = {beta} lets the addresses scatter."

    pick = Exercise("3.4", "Choose β", 0.5, {"too tidy": Mistake(4.0, "All pictures now share an address.")}, check=judge_beta)
    assert pick.judge(0.3).passed
    assert pick.judge(4.0).message == "All pictures now share an address."
    assert pick.judge(0.01).message == "β = 0.01 lets the addresses scatter."
    assert "TypeError" in pick.judge("much").message


def test_calling_shows_the_verdict_and_returns_nothing(capsys):
    assert KL(kl) is None
    assert capsys.readouterr().out.strip() == "✓ Exercise 3.1, The price of an address. Yes."
    assert KL(stub) is None
    assert capsys.readouterr().out.startswith("✗ Exercise 3.1, The price of an address. Nothing written yet")


def test_html_escapes_and_tells_right_from_wrong():
    right, wrong = KL.judge(kl)._repr_html_(), KL.judge(lambda m, v: "<b>")._repr_html_()
    assert "✓" in right and "#2f855a" in right
    assert "&lt;b&gt;" in wrong and "<b>" not in wrong and "#b7791f" in wrong


@pytest.mark.parametrize(
    "got, expected, equal",
    [
        ((1.0, [2.0, 3.0]), (1, torch.tensor([2.0, 3.0])), True),
        ((1.0, 2.0), (1.0, 2.1), False),
        ((1.0,), (1.0, 2.0), False),
        (" Bottle ", "bottle", True),
        ("can", "bottle", False),
        (True, True, True),
        (np.ones(3, dtype=np.int64), torch.ones(3), True),
        (float("inf"), float("inf"), True),
        (1.0, 1.001, False),
    ],
)
def test_same(got, expected, equal):
    assert same(got, expected) is equal
    assert (difference(got, expected) is None) is equal
