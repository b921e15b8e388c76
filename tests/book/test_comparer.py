"""The comparer notices what is stale, and only that."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image

TOOLS = Path(__file__).resolve().parents[2] / "book" / "tools"
PICTURE = """\
import io
import numpy as np
from PIL import Image
from IPython.display import display
from IPython.display import Image as Shown
pixels = np.full((48, 48, 3), 90, "uint8")
pixels[:24] = 200
buffer = io.BytesIO()
Image.fromarray(pixels).save(buffer, "png")
display(Shown(buffer.getvalue()))"""


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def halves(top, bottom, size=48):
    pixels = np.full((size, size, 3), bottom, "uint8")
    pixels[: size // 2] = top
    return png(pixels)


def jpeg(top, bottom=90, size=48):
    """A picture inside a page, as a filmstrip carries its frames."""
    pixels = np.full((size, size, 3), bottom, "uint8")
    pixels[: size // 2] = top
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=88)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def embedded(committed, now, tags, agrees):
    """A cell whose page holds the picture `now`, committed as `committed`."""
    page = {"text/html": committed, "text/plain": "<IPython.core.display.HTML object>"}
    source = f"from IPython.display import HTML, display; display(HTML({now!r}))"
    return source, v4.new_output("display_data", page), tags, agrees


def stream(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def shown(mime, value):
    plain = {"text/plain": "<IPython.core.display.Image object>"} if mime == "image/png" else {}
    return v4.new_output("display_data", {mime: value, **plain})


def stored(name, text):
    record = {"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}}
    return v4.new_output(
        "display_data", {"application/papermill.record/text/plain": repr(text)}, metadata=record
    )


# name -> (source, committed output, tags, whether it agrees)
CELLS = {
    "same": ("print('loss 0.25, 3 ads')", stream("loss 0.25, 3 ads\n"), [], True),
    "jitter": ("print(0.12345)", stream("0.12346\n"), [], True),
    "stale_number": ("print(0.5)", stream("0.51\n"), [], False),
    "changed_sign": ("print(-0.5)", stream("0.5\n"), [], False),
    "loosened_number": ("print(0.5)", stream("0.51\n"), ["rtol-5e-2"], True),
    "loosened_too_little": ("print(0.5)", stream("0.6\n"), ["rtol-5e-2"], False),
    "absolute": ("print(0.02)", stream("0.06\n"), ["atol-0.05"], True),
    "stale_integer": ("print(1000)", stream("1001\n"), [], False),
    "integer_with_rtol": ("print(1000)", stream("1001\n"), ["rtol-1e-2"], False),
    "trained_integer": ("print(1000)", stream("1001\n"), ["trained-0.01"], True),
    "trained_too_far": ("print(1000)", stream("1020\n"), ["trained-0.01"], False),
    "padding": ("print(f'{9.999:7.3f}')", stream(" 10.001\n"), [], True),
    "changed_text": ("print('right 0.5')", stream("wrong 0.5\n"), [], False),
    "missing_output": ("print(1)", None, [], False),
    "lost_output": ("x = 1", stream("1\n"), [], False),
    "extra_output": ("1", stream("1\n"), [], False),
    "stderr": ("import sys; print('x', file=sys.stderr)", stream("x\n", "stderr"), [], False),
    "semicolon": ("41 + 1;", None, [], True),
    "one_thread": ("import os; print(os.environ['OMP_NUM_THREADS'])", stream("1\n"), [], True),
    "picture": (PICTURE, shown("image/png", halves(200, 90)), [], True),
    "picture_jitter": (PICTURE, shown("image/png", halves(204, 93)), [], True),
    "picture_size": (PICTURE, shown("image/png", halves(200, 90, 50)), [], True),
    "picture_too_large": (PICTURE, shown("image/png", halves(200, 90, 60)), [], False),
    "stale_picture": (PICTURE, shown("image/png", halves(90, 200)), [], False),
    "fainter_picture": (PICTURE, shown("image/png", halves(225, 90)), [], False),
    "loosened_picture": (PICTURE, shown("image/png", halves(225, 90)), ["picture-0.12"], True),
    "html": (
        "from IPython.display import HTML, display; display(HTML('<b>0.5</b><script>v=0.5</script>'))",
        v4.new_output(
            "display_data",
            {
                "text/html": "<b>0.50001</b><script>v=0.5</script>",
                "text/plain": "<IPython.core.display.HTML object>",
            },
        ),
        [],
        True,
    ),
    "html_script": (
        "from IPython.display import HTML, display; display(HTML('<b>0.5</b><script>v=0.5</script>'))",
        v4.new_output(
            "display_data",
            {
                "text/html": "<b>0.5</b><script>v=0.50001</script>",
                "text/plain": "<IPython.core.display.HTML object>",
            },
        ),
        [],
        False,
    ),
    "embedded_jitter": embedded(jpeg(203), jpeg(200), [], True),
    "embedded_stale": embedded(jpeg(225), jpeg(200), [], False),
    "embedded_loosened": embedded(jpeg(225), jpeg(200), ["picture-0.12"], True),
    "embedded_in_a_script": embedded(f"<script>{jpeg(203)}</script>", f"<script>{jpeg(200)}</script>", [], False),
    "number": ("from numbers_module import number; number('a', 0.5, '.3f')", stored("a", "0.500"), [], True),
    "stale_stored": (
        "from numbers_module import number; number('b', 0.5, '.3f')",
        stored("b", "0.600"),
        [],
        False,
    ),
    "renamed": (
        "from numbers_module import number; number('d', 0.5, '.3f')",
        stored("c", "0.500"),
        [],
        False,
    ),
}


def run(folder, cells):
    """nbval over one notebook of these cells; return cell number -> whether it passed."""
    nbformat.write(v4.new_notebook(cells=cells), folder / "planted.ipynb")
    source = TOOLS.parents[1] / "vaelab" / "numbers.py"
    (folder / "numbers_module.py").write_text(source.read_text())
    command = [sys.executable, "-m", "pytest", "-p", "nbval_comparer", "-p", "no:cacheprovider", "-q", "-rA"]
    command += ["--nbval", "--nbval-current-env", "--rootdir", str(folder), "planted.ipynb"]
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "PYTEST_ADDOPTS")}
    environment["PYTHONPATH"] = str(TOOLS)
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    verdicts = {
        int(n): word
        for word, n in re.findall(r"^(PASSED|FAILED) planted.ipynb::Cell (\d+)", done.stdout, re.MULTILINE)
    }
    assert len(verdicts) == len(cells), done.stdout + done.stderr
    return verdicts, done.stdout


def planted(source, output, tags):
    outputs = [output] if output else []
    return v4.new_code_cell(source, outputs=outputs, execution_count=1, metadata={"tags": tags})


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    cells = [planted(source, output, tags) for source, output, tags, _ in CELLS.values()]
    cells.append(v4.new_code_cell("1 + 1"))  # never executed
    return run(tmp_path_factory.mktemp("planted"), cells)


@pytest.mark.parametrize("name", CELLS)
def test_cell(verdicts, name):
    passed, report = verdicts
    expected = "PASSED" if CELLS[name][3] else "FAILED"
    assert passed[list(CELLS).index(name)] == expected, report


def test_unexecuted_cell_fails(verdicts):
    passed, report = verdicts
    assert passed[len(CELLS)] == "FAILED"
    assert "never executed" in report


def test_report_shows_both_values(verdicts):
    assert "0.51" in verdicts[1] and "--- committed" in verdicts[1]
