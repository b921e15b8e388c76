"""One source per chapter: book/lessons/NN-name.md -> the executed, solved notebook book/NN-name.ipynb.

    python book/tools/notebooks.py build [NAME…]     execute the lessons and write the notebooks
    python book/tools/notebooks.py check [NAME…]     are the notebooks what the lessons say? (nothing is run)
    python book/tools/notebooks.py learner [NAME…]   copy them without solutions to work/, once, and the app My creatives

How a lesson is written (tests/book/fixtures/99-sample.md is one to copy):

* A lesson is MyST; code stands in `{code-cell} ipython3`. On the site its code is folded, in the notebook open.
  Header keys of a cell (between `---` lines): `tags`, and for a cell that draws one picture `caption`, `alt`,
  and if wanted `name` (to refer to it) and `width`.
* Tags: `exercise`, `check`, `analyst` (the whole cell is folded on the site), `show-code` (not folded),
  `remove-input` (no code on the site at all), and the tolerances of nbval_comparer.py.
* An exercise is an `{exercise}` directive (with `:label:`; its first line "Difficulty 2/5 · 5 minutes"; hints
  are `{dropdown}`s inside it), then a cell tagged `exercise` with the answer between `### BEGIN SOLUTION`
  and `### END SOLUTION`, then a cell tagged `check`. The number, the stub and the fold round the solution
  are added here. An answer in words stands in a `{solution}`. No later cell may need the reader's answer.
* Prose quotes a number with {glue:text}`name` after a cell said `number("name", value, ".2f")`.
* A directive opens and closes in one text cell, so none can hold a code cell.
"""

import argparse
import ast
import base64
import copy
import hashlib
import json
import mimetypes
import os
import re
import sys
from pathlib import Path

import nbformat
from nbformat import v4
from outputs import clean
from plain import FENCE, PICTURE, Plain, closing, details, labels

ROOT = Path(__file__).resolve().parents[2]
LESSONS, BOOK, WORK = ROOT / "book" / "lessons", ROOT / "book", ROOT / "work"
APP = "my-creatives"  # a notebook of one cell with no lesson behind it
LIMIT = 1_500_000
ANSWER = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION[ \t]*\n?", re.MULTILINE | re.DOTALL
)
MARKERS = re.compile(r"^[ \t]*### (?:BEGIN|END) SOLUTION[ \t]*\n?", re.MULTILINE)
EXERCISE = re.compile(
    r"^(?P<fence>[`:]{3,})\{exercise\} *(?P<title>.*)\n:label: *(?P<label>.+)\n", re.MULTILINE
)
REFERENCE = re.compile(r"\{ref\}`([^`<>]+)`")
PREFIX = "application/papermill.record/"
OWN_FOLD = {"show-code", "remove-input", "remove-cell"}
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "file_extension": ".py", "pygments_lexer": "ipython3"},
}


# Lesson -> solved notebook, not yet executed


def solved(text, chapter):
    """The notebook of a lesson: numbers, stubs, folds and ids added, nothing executed."""
    import jupytext

    text, references = numbered(text, chapter)
    cells = []
    for cell in jupytext.reads(text, fmt="md:myst").cells:
        cells += [refer(cell, references)] if cell.cell_type == "markdown" else code_cells(cell)
    return v4.new_notebook(cells=with_ids(cells), metadata=copy.deepcopy(METADATA))


def numbered(text, chapter):
    """The lesson with its exercises numbered, and label -> "Exercise 1.2" for each of them."""
    references = {}

    def number(match):
        name = f"{chapter}.{len(references) + 1}"
        references[match["label"]] = f"Exercise {name}"
        head = f"{match['fence']}{{exercise}} {name} · {match['title']}"
        return f"{head}\n:label: {match['label']}\n:nonumber:\n"

    text = EXERCISE.sub(number, text)
    if text.count("{exercise}") != len(references):
        raise ValueError("An {exercise} needs a label of its own: put ':label: name' on the line below it.")
    return text, references


def refer(cell, references):
    """A text cell whose directives all close and whose references to exercises say their number."""
    check_fences(cell.source)
    source = REFERENCE.sub(
        lambda m: f"{{ref}}`{references[m[1]]} <{m[1]}>`" if m[1] in references else m[0], cell.source
    )
    return v4.new_markdown_cell(source, metadata=dict(cell.metadata))


def check_fences(text):
    lines, i = text.split("\n"), 0
    while i < len(lines):
        if match := FENCE.match(lines[i]):
            if match["name"] == "code-cell":
                raise ValueError("A {code-cell} stands inside a directive: end the directive before it.")
            end = closing(lines, i, match["fence"])
            if re.search(r"^:[\w-]+: .*\n *:::", "\n".join(lines[i + 1 : end]), re.MULTILINE):
                raise ValueError(
                    f"{lines[i].strip()!r}: leave a blank line between its options and the next ':::'."
                )
            check_fences("\n".join(lines[i + 1 : end]))
            i = end
        i += 1


def code_cells(cell):
    """A code cell with its folds; before an exercise, the stub as text for readers of the site."""
    source, metadata = cell.source, site_metadata(dict(cell.metadata))
    if "exercise" not in metadata.get("tags", []):
        return [v4.new_code_cell(source, metadata=metadata)]
    if not ANSWER.search(source):
        raise ValueError("An exercise cell has no ### BEGIN SOLUTION … ### END SOLUTION.")
    stub = v4.new_markdown_cell(f"```python\n{stubbed(source)}\n```", metadata={"tags": ["stub"]})
    return [stub, v4.new_code_cell(MARKERS.sub("", source).rstrip(), metadata=metadata)]


def stubbed(source):
    """The source with each answer replaced by a line that says so."""
    return ANSWER.sub(
        r'\1raise NotImplementedError("your turn")  # replace this line' + "\n", source
    ).rstrip()


def site_metadata(metadata):
    """Short header keys -> what MyST-NB reads."""
    tags = list(metadata.get("tags", []))
    site = metadata.pop("mystnb", {})
    figure = {key: metadata.pop(key) for key in ("caption", "name") if key in metadata}
    image = {key: metadata.pop(key) for key in ("alt", "width") if key in metadata}
    site |= {"figure": figure} if figure else {}
    site |= {"image": image} if image else {}
    if "exercise" in tags:
        site |= {"code_prompt_show": "Show the solution", "code_prompt_hide": "Hide the solution"}
    elif "analyst" in tags:
        site |= {
            "code_prompt_show": "For the analyst: code and result",
            "code_prompt_hide": "For the analyst",
        }
    if not OWN_FOLD & set(tags):
        tags.append("hide-cell" if "analyst" in tags else "hide-input")
    return metadata | {"tags": tags} | ({"mystnb": site} if site else {})


def with_ids(cells):
    """Ids that follow from the content, so that a rebuild changes nothing."""
    seen = {}
    for cell in cells:
        name = hashlib.sha1((cell.cell_type + cell.source).encode()).hexdigest()[:10]
        seen[name] = seen.get(name, 0) + 1
        cell["id"] = f"{name}-{seen[name]}"
    return cells


# Build and check


def build(name):
    """Execute one lesson and write its notebook."""
    notebook = execute(read_lesson(name), BOOK)
    text = as_json(notebook)
    if len(text.encode()) > LIMIT:
        raise ValueError(
            f"{name}.ipynb would be {len(text.encode()):,} bytes, over {LIMIT:,}: draw smaller pictures."
        )
    (BOOK / f"{name}.ipynb").write_text(text, encoding="utf-8", newline="\n")


def execute(notebook, folder):
    """Run a notebook in one thread and keep of its outputs what a committed notebook keeps."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=180,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        skip_cells_with_tag="skip-execution",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [nbformat.from_dict(output) for output in clean(cell.outputs)]
            refuse_stderr(cell)
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def refuse_stderr(cell):
    text = "".join(o["text"] for o in cell.outputs if o.get("name") == "stderr")
    if text:
        raise ValueError(f"A cell wrote to stderr; it must not.\n{cell.source}\n→ {text}")


def as_json(notebook):
    nbformat.validate(notebook)
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def read_lesson(name):
    text = (LESSONS / f"{name}.md").read_text(encoding="utf-8")
    try:
        return solved(text, int(name.split("-")[0]))
    except ValueError as error:
        raise ValueError(f"{name}.md: {error}") from error


def out_of_step(name):
    """Why a committed notebook is not what its lesson says, or None. Runs nothing."""
    path = BOOK / f"{name}.ipynb"
    if not (LESSONS / f"{name}.md").exists():
        return f"{name}.ipynb has no lesson: write book/lessons/{name}.md or delete the notebook"
    if not path.exists():
        return f"{name}.ipynb is missing: build it"
    committed, wanted = nbformat.read(path, 4), read_lesson(name)
    if described(committed) != described(wanted):
        return f"{name}.ipynb is not what {name}.md says: build it again"
    if any(never_executed(cell) for cell in committed.cells):
        return f"{name}.ipynb has a cell that was never executed: build it again"
    return None


def described(notebook):
    """Everything of a notebook but what execution adds."""
    cells = [
        {k: v for k, v in cell.items() if k not in ("outputs", "execution_count")} for cell in notebook.cells
    ]
    return json.dumps([cells, notebook.metadata, notebook.nbformat, notebook.nbformat_minor], sort_keys=True)


def never_executed(cell):
    skipped = "skip-execution" in cell.metadata.get("tags", [])
    return (
        cell.cell_type == "code"
        and bool(cell.source.strip())
        and not skipped
        and cell.execution_count is None
    )


# Solved notebook -> learner notebook


def learner(notebook, chapters=()):
    """The notebook a learner works in: no solutions, no outputs, plain Markdown."""
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    figures = (c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in notebook.cells)
    plain = Plain(stored_numbers(notebook), labels(texts) | dict.fromkeys(figures, "the figure"), chapters)
    cells, stub = [], None
    for cell in notebook.cells:
        if "stub" in cell.metadata.get("tags", []):
            stub = cell.source.removeprefix("```python\n").removesuffix("\n```")
        elif cell.cell_type == "markdown":
            text = plain.convert(cell.source)
            cells += [text_cell(text)] if text else []
        else:
            cells += learner_code(cell, stub, plain)
            stub = None
    return v4.new_notebook(cells=with_ids(cells), metadata=copy.deepcopy(METADATA))


def learner_code(cell, stub, plain):
    """A code cell as it is, or its stub; then what it should show, folded, or its caption."""
    tags = [tag for tag in cell.metadata.get("tags", []) if tag in ("exercise", "check", "analyst")]
    folds = {"jupyter": cell.metadata["jupyter"]} if "jupyter" in cell.metadata else {}
    code = v4.new_code_cell(stub or cell.source, metadata=folds | ({"tags": tags} if tags else {}))
    picture = next((o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})), None)
    caption = plain.convert(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
    if picture and {"exercise", "check"} & set(tags):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "the expected picture")
        text = details("What you should see", f"![{alt}](attachment:expected.png)\n\n{caption}".strip())
        return [code, text_cell(text, {"expected.png": {"image/png": picture}})]
    return [code, text_cell(f"*{caption}*")] if caption else [code]


def text_cell(text, attachments=None):
    """A Markdown cell that carries its pictures with it."""
    attachments = dict(attachments or {})
    for _, path in PICTURE.findall(text):
        mime = mimetypes.guess_type(path)[0] or "image/png"
        attachments[Path(path).name] = {mime: base64.b64encode((BOOK / path).read_bytes()).decode()}
    cell = v4.new_markdown_cell(PICTURE.sub(lambda m: f"![{m[1]}](attachment:{Path(m[2]).name})", text))
    if attachments:
        cell["attachments"] = attachments
    return cell


def stored_numbers(notebook):
    """Name -> text of every number that a cell stored for the prose."""
    records = [
        o for c in notebook.cells for o in c.get("outputs", []) if "scrapbook" in o.get("metadata", {})
    ]
    return {
        o.metadata["scrapbook"]["name"]: ast.literal_eval(o.data[PREFIX + "text/plain"])
        for o in records
        if PREFIX + "text/plain" in o.data
    }


def names_of(folder, pattern):
    return sorted(path.stem for path in folder.glob(pattern))


def write_learners(folder, names=None, overwrite=False):
    """Write learner notebooks into `folder`; return the names written."""
    everything = names_of(BOOK, "[0-9]*.ipynb")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names or [*everything, *names_of(BOOK, f"{APP}.ipynb")]:
        path = folder / f"{name}.ipynb"
        if overwrite or not path.exists():
            notebook = learner(nbformat.read(BOOK / f"{name}.ipynb", 4), everything)
            path.write_text(as_json(notebook), encoding="utf-8", newline="\n")
            written.append(name)
    return written


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Lessons, notebooks, learner notebooks.")
    parser.add_argument("command", choices=["build", "check", "learner"])
    parser.add_argument("names", nargs="*", help="chapters, such as 01-autoencoders; all when none is named")
    options = parser.parse_args(arguments)
    for name in options.names:
        if not (LESSONS / f"{name}.md").exists():
            parser.error(f"there is no chapter {name!r}; choose from {', '.join(names_of(LESSONS, '[0-9]*.md'))}")
    try:
        return {"build": run_build, "check": run_check, "learner": run_learner}[options.command](
            options.names
        )
    except (ValueError, OSError) as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 1


def run_build(names):
    for name in names or names_of(LESSONS, "[0-9]*.md"):
        build(name)
        print(f"built book/{name}.ipynb")
    return 0


def run_check(names):
    every = sorted({*names_of(LESSONS, "[0-9]*.md"), *names_of(BOOK, "[0-9]*.ipynb")})
    problems = [problem for name in names or every if (problem := out_of_step(name))]
    print("\n".join(problems) or "every notebook is what its lesson says")
    return 1 if problems else 0


def run_learner(names):
    written = write_learners(WORK, names)
    print("\n".join(f"work/{name}.ipynb" for name in written) or "work/ has them all; nothing is overwritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
