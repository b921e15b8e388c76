"""Every committed chapter: in step with its lesson, complete, light, and readable by everyone."""

import re
from collections import Counter

import nbformat
import notebooks
import pytest

CHAPTERS = notebooks.names_of(notebooks.BOOK, "[0-9]*.ipynb")
LESSONS = notebooks.names_of(notebooks.LESSONS, "[0-9]*.md")
PRIVATE = re.compile(r"/(?:home|Users|root|tmp|work)/|[A-Z]:\\\\|\bat 0x[0-9a-f]+|\bTraceback\b")
UNCAPTIONED = {"exercise", "check", "analyst"}

each_chapter = pytest.mark.parametrize("name", CHAPTERS)
each_lesson = pytest.mark.parametrize("name", LESSONS)


def read(name):
    return nbformat.read(notebooks.BOOK / f"{name}.ipynb", 4)


def code_of(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def text_of(name):
    return (notebooks.LESSONS / f"{name}.md").read_text(encoding="utf-8")


def outputs_with(cell, mime):
    return [o for o in cell.outputs if mime in o.get("data", {})]


def directives(text, head):
    """The contents of every directive whose first line matches `head`."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if (match := notebooks.FENCE.match(line)) and re.search(head, "\n".join(lines[i : i + 2])):
            yield "\n".join(lines[i : notebooks.closing(lines, i, match["fence"])])


def test_every_lesson_has_its_notebook_and_back():
    assert CHAPTERS == LESSONS


@each_lesson
def test_notebook_is_what_its_lesson_says(name):
    assert notebooks.out_of_step(name) is None


@each_chapter
def test_notebook_is_light(name):
    assert (notebooks.BOOK / f"{name}.ipynb").stat().st_size <= notebooks.LIMIT


@each_chapter
def test_outputs_hold_nothing_of_one_machine(name):
    for cell in code_of(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            text = [output.get("text", "")] + [
                v for k, v in output.get("data", {}).items() if k.startswith("text/")
            ]
            found = PRIVATE.search("\n".join(text))
            assert not found, f"{found[0]!r} in the output of\n{cell.source}"


@each_chapter
def test_every_picture_has_alt_text_and_a_caption(name):
    for cell in code_of(name):
        pictures = sum(len(outputs_with(cell, kind)) for kind in ("image/png", "image/jpeg"))
        if not pictures:
            continue
        site = cell.metadata.get("mystnb", {})
        assert pictures == 1, f"one picture a cell:\n{cell.source}"
        assert len(site.get("image", {}).get("alt", "")) >= 15, f"no alt text:\n{cell.source}"
        if not UNCAPTIONED & set(cell.metadata.tags):
            assert len(site.get("figure", {}).get("caption", "")) >= 15, f"no caption:\n{cell.source}"


@each_lesson
def test_every_markdown_picture_has_alt_text(name):
    assert not re.search(r"!\[\s*\]\(", text_of(name))
    for picture in directives(text_of(name), r"\{(figure|image)\}"):
        assert ":alt:" in picture, picture


@each_chapter
def test_code_is_short(name):
    for cell in code_of(name):
        assert len(cell.source.split("\n")) <= 25, cell.source


@each_chapter
def test_numbers_are_stored_once_and_quoted_numbers_exist(name):
    notebook = read(name)
    records = [
        o.metadata["scrapbook"]["name"]
        for c in code_of(name)
        for o in c.outputs
        if "scrapbook" in o.get("metadata", {})
    ]
    assert [n for n, times in Counter(records).items() if times > 1] == []
    quoted = {n for c in notebook.cells for n in re.findall(r"\{glue:text\}`([^`]+)`", c.source)}
    assert quoted - set(records) == set()


@each_lesson
def test_frame(name):
    text = text_of(name)
    assert text.lstrip().startswith("# ")
    places = [
        text.find(part)
        for part in (
            ":class: client",
            ":class: aims",
            "## What we measured",
            ":class: decision",
            "## Quiz",
            "## Next",
        )
    ]
    assert -1 not in places, places
    assert places == sorted(places), "the parts of a chapter stand in one order"
    aims = next(directives(text, "(?s):class: aims"))
    assert 3 <= len(re.findall(r"^[-*] ", aims, re.MULTILINE)) <= 5
    assert re.search(r"\d+ minutes to read · \d+ minutes to do · \d+ seconds to run", aims)


@each_lesson
def test_exercises(name):
    text = text_of(name)
    exercises = list(directives(text, r"\{exercise\}"))
    assert len(exercises) >= 4
    for exercise in exercises:
        assert re.search(r"^Difficulty [1-5]/5 · \d+ minutes?$", exercise, re.MULTILINE), exercise
        assert len(re.findall(r"\{dropdown\} Hint \d", exercise)) == 3, exercise
    answers = text.count("### BEGIN SOLUTION") + len(list(directives(text, r"\{solution\}")))
    assert answers >= len(exercises)


@each_lesson
def test_quiz(name):
    questions = list(directives(text_of(name), "(?s):class: quiz"))
    assert 4 <= len(questions) <= 6
    for question in questions:
        choices = list(directives(question, r"\{dropdown\}"))
        assert len(choices) >= 2
        assert all(len(choice.split("\n", 1)[-1].strip()) >= 10 for choice in choices), question


@each_lesson
def test_decision_card(name):
    card = next(directives(text_of(name), "(?s):class: decision"))
    for row in ("Use it when", "Do not use it when", "Cost", "How it fails in front of a client", "Ask"):
        assert f"**{row}**" in card, row


@each_chapter
def test_learner_notebook(name):
    """Plain Markdown, no solution, and the solved notebook again once the answers are put back."""
    solved = read(name)
    learner = notebooks.learner(solved, CHAPTERS)
    text = "\n".join(c.source for c in learner.cells if c.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"\{[\w:-]+\}`|^ *:{3,}|^ *`{3,}\{|### (BEGIN|END) SOLUTION", prose, re.MULTILINE)
    stubs = [c for c in learner.cells if c.cell_type == "code" and "exercise" in c.metadata.get("tags", [])]
    assert all("NotImplementedError" in stub.source and not stub.outputs for stub in stubs)
    assert [c.source for c in with_answers(learner, solved).cells if c.cell_type == "code"] == [
        c.source for c in code_of(name)
    ]


def with_answers(learner, solved):
    """A learner notebook whose stubs are replaced by the reference solutions."""
    answers = iter(c.source for c in solved.cells if "exercise" in c.metadata.get("tags", []))
    for cell in learner.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = next(answers)
    return learner


@pytest.mark.long
@each_chapter
def test_learner_notebook_runs_with_the_answers(name):
    solved = read(name)
    done = notebooks.execute(with_answers(notebooks.learner(solved, CHAPTERS), solved), notebooks.BOOK)
    assert not any(notebooks.never_executed(cell) for cell in done.cells)


@pytest.mark.long
@each_chapter
def test_learner_notebook_runs_untouched(name):
    """Nothing but the exercises themselves needs the reader's answers."""
    notebooks.execute(notebooks.learner(read(name), CHAPTERS), notebooks.BOOK)
