"""From lesson to solved, executed and learner notebook, on the sample lesson."""

from pathlib import Path

import notebooks
import outputs
import plain
import pytest

SAMPLE = (Path(__file__).parent / "fixtures" / "99-sample.md").read_text(encoding="utf-8")
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return [notebooks.as_json(notebooks.execute(notebooks.solved(SAMPLE, 99), folder)) for _ in range(2)]


@pytest.fixture(scope="module")
def solved(built):
    return notebooks.nbformat.reads(built[0], 4)


@pytest.fixture(scope="module")
def learner(solved):
    return notebooks.learner(solved, ["99-sample"])


def with_tag(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_a_rebuild_changes_no_byte(built):
    assert built[0] == built[1]


def test_built_notebook_keeps_nothing_of_the_run(built):
    assert not any(word in built[0] for word in ("iopub", "widget-state", "2026-", "Traceback"))


def test_execution_changes_only_what_execution_adds(solved):
    assert notebooks.described(solved) == notebooks.described(notebooks.solved(SAMPLE, 99))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Four terms", "Five terms"),
        ("price(mean", "cost(mean"),
        ("tags: [check]", "tags: [check, rtol-1e-2]"),
        ("A curve with", "A line with"),
    ],
)
def test_any_change_of_the_lesson_is_noticed(solved, old, new):
    assert old in SAMPLE
    assert notebooks.described(solved) != notebooks.described(notebooks.solved(SAMPLE.replace(old, new), 99))


def test_out_of_step(tmp_path, monkeypatch, built):
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    monkeypatch.setattr(notebooks, "LESSONS", tmp_path)
    assert "has no lesson" in notebooks.out_of_step("99-sample")
    (tmp_path / "99-sample.md").write_text(SAMPLE, encoding="utf-8")
    assert "is missing" in notebooks.out_of_step("99-sample")
    (tmp_path / "99-sample.ipynb").write_text(built[0], encoding="utf-8")
    assert notebooks.out_of_step("99-sample") is None
    (tmp_path / "99-sample.ipynb").write_text(
        built[0].replace('"execution_count": 2', '"execution_count": null')
    )
    assert "never executed" in notebooks.out_of_step("99-sample")
    (tmp_path / "99-sample.md").write_text(SAMPLE + "\nMore.\n", encoding="utf-8")
    assert "is not what" in notebooks.out_of_step("99-sample")


def test_too_large_a_notebook_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    monkeypatch.setattr(notebooks, "LESSONS", tmp_path)
    monkeypatch.setattr(notebooks, "execute", lambda notebook, folder: notebook)
    (tmp_path / "98-large.md").write_text("# Large\n\n" + "x" * notebooks.LIMIT)
    with pytest.raises(ValueError, match="98-large.ipynb would be"):
        notebooks.build("98-large")
    assert not (tmp_path / "98-large.ipynb").exists()


def test_exercise_on_the_site(solved):
    [stub], [cell] = with_tag(solved, "stub"), with_tag(solved, "exercise")
    assert "NotImplementedError" in stub.source and "np.log" not in stub.source
    assert "np.log" in cell.source and "SOLUTION" not in cell.source
    assert "hide-input" in cell.metadata.tags
    assert cell.metadata.mystnb.code_prompt_show == "Show the solution"
    assert "{exercise} 99.1 · The price of one address" in prose(solved)
    assert "{ref}`Exercise 99.1 <sample-price>`" in prose(solved)


def test_figure_keys(solved):
    site = solved.cells[1].metadata.mystnb
    assert site.figure == {"caption": "Two bumps. See how the second one is lower.", "name": "sample-curve"}
    assert site.image.alt.startswith("A curve with a high bump")


def test_learner_text_is_plain(learner):
    text = prose(learner)
    assert "{" not in text.replace("\\mathrm{KL}", "").replace("\\frac{q}{p}", "")
    assert ":::" not in text
    assert "The highest point is 0.83; see the figure and, for the words, latent" in text
    assert "which Exercise 99.1 asks for" in text
    assert "> **The client's question**" in text
    assert "<details>\n<summary>Hint 3</summary>\n\nThe logarithm" in text
    assert "**1. What is a code?**\n\n<details>" in text
    assert "The half belongs to all four terms" not in text


def test_learner_code(learner, solved):
    [stub] = with_tag(learner, "exercise")
    assert stub.source.endswith('raise NotImplementedError("your turn")  # replace this line')
    code = [cell for cell in learner.cells if cell.cell_type == "code"]
    assert len(code) == sum(cell.cell_type == "code" for cell in solved.cells)
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_learner_notebook_is_copied_once(tmp_path, monkeypatch, built):
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    (tmp_path / "99-sample.ipynb").write_text(built[0], encoding="utf-8")
    work = tmp_path / "work"
    assert notebooks.write_learners(work) == ["99-sample"]
    (work / "99-sample.ipynb").write_text("mine")
    assert notebooks.write_learners(work) == []
    assert (work / "99-sample.ipynb").read_text() == "mine"


@pytest.mark.parametrize(
    ("lesson", "message"),
    [
        (":::{note} Open\ntext", "Nothing closes"),
        (":::{exercise} No label\ntext\n:::", "needs a label"),
        ("```{code-cell} ipython3\n:tags: [exercise]\nx = 1\n```", "BEGIN SOLUTION"),
        ("::::{admonition} Why?\n:class: quiz\n:::{dropdown} So\nYes.\n:::\n::::", "blank line"),
    ],
)
def test_mistakes_in_a_lesson_are_named(lesson, message):
    with pytest.raises(ValueError, match=message):
        notebooks.solved(lesson, 1)


def test_a_quoted_number_must_exist():
    with pytest.raises(ValueError, match="add number\\('gone'"):
        plain.Plain({}, {}).convert("It is {glue:text}`gone`.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "See [two](02-points.md) and {doc}`02-points`.",
            "See [two](02-points.ipynb) and [02-points](02-points.ipynb).",
        ),
        ("See {term}`codes <latent>` and [words](glossary.md).", "See codes and words."),
        ("(there)=\n## There\n\nSee {ref}`there`.", "## There\n\nSee There."),
        ("```{math}\na^2\n```", "$$\na^2\n$$"),
        ("```{code-block} python\nx = {1: 2}\n```", "```python\nx = {1: 2}\n```"),
        ("```python\n# {ref}`kept`\n```", "```python\n# {ref}`kept`\n```"),
        (
            ":::{dropdown} The `kl` and **why**\nYes.\n:::",
            "<details>\n<summary>The <code>kl</code> and <b>why</b></summary>\n\nYes.\n\n</details>",
        ),
    ],
)
def test_plain(text, expected):
    converter = plain.Plain({}, plain.labels(text), ["02-points"])
    assert converter.convert(text) == expected


def display(data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([display({WIDGET: {}, "text/html": "<b>"})], [{"text/html": "<b>"}]),
        ([display({WIDGET: {}, "text/plain": "interactive(...)"})], [{"text/markdown": outputs.LIVE}]),
        ([display({WIDGET: {}, "text/plain": "  0%|          | 0/10 [00:00<?]"})], []),
        ([display({"text/plain": ["a\n", "b"]})], [{"text/plain": "a\nb"}]),
    ],
)
def test_widgets(given, kept):
    assert [output["data"] for output in outputs.clean(given)] == kept


def test_streams_end_as_a_terminal_shows_them():
    parts = [
        {"output_type": "stream", "name": "stdout", "text": text}
        for text in ("1 %\r", "2 %\r", "done\n", "next\n")
    ]
    assert [output["text"] for output in outputs.clean(parts)] == ["done\nnext\n"]


@pytest.mark.parametrize(("tag", "text"), [("check", "What you should see"), ("plot", "*As drawn.*")])
def test_pictures_for_learners(tag, text):
    picture = notebooks.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    site = {"figure": {"caption": "As drawn."}, "image": {"alt": "two bumps"}}
    cell = notebooks.v4.new_code_cell("draw()", outputs=[picture], metadata={"tags": [tag], "mystnb": site})
    _, shown = notebooks.learner(notebooks.v4.new_notebook(cells=[cell])).cells
    assert text in shown.source and "As drawn." in shown.source
    attached = {"expected.png": {"image/png": "iVBORw0KGgo="}} if tag == "check" else {}
    assert shown.get("attachments", {}) == attached
    assert ("![two bumps](attachment:expected.png)" in shown.source) == (tag == "check")
