"""Every exercise of every chapter: the solution passes, each wrong submission gets exactly its own message."""

import importlib
import pkgutil

import pytest

import vaelab.exercises
from vaelab.exercises import Exercise

MODULES = [importlib.import_module(m.name) for m in pkgutil.iter_modules(vaelab.exercises.__path__, "vaelab.exercises.")]
EXERCISES = {
    f"{module.__name__.rsplit('.')[-1]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, Exercise)
}
SUBMISSIONS = [(key, name) for key, exercise in EXERCISES.items() for name in exercise.mistakes]


@pytest.mark.parametrize("key", EXERCISES)
def test_the_reference_solution_passes(key):
    exercise = EXERCISES[key]
    verdict = exercise.judge(exercise.solution)
    assert verdict.passed, verdict.message


@pytest.mark.parametrize("key, name", SUBMISSIONS)
def test_each_wrong_submission_gets_its_own_message(key, name):
    mistake = EXERCISES[key].mistakes[name]
    verdict = EXERCISES[key].judge(mistake.submission)
    assert not verdict.passed
    assert (verdict.mistake, verdict.message) == (name, mistake.message)


@pytest.mark.parametrize("key", EXERCISES)
def test_an_exercise_names_mistakes_and_tells_them_apart(key):
    messages = [mistake.message for mistake in EXERCISES[key].mistakes.values()]
    assert messages, "an exercise expects at least one named mistake"
    assert len(set(messages)) == len(messages)


def test_numbers_are_used_once():
    numbers = [exercise.number for exercise in EXERCISES.values()]
    assert len(set(numbers)) == len(numbers)
