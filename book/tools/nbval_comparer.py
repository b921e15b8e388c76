"""nbval, strict where it matters and tolerant where machines differ. Load it with `-p nbval_comparer`.

    PYTHONPATH=book/tools python -m pytest -p nbval_comparer --nbval --nbval-current-env -n 2 --dist loadfile book

Text is exact, integers are exact, numbers with a decimal point agree within rtol 1e-3, pictures agree
coarsely (24 x 24 box means of each colour, largest difference under 0.06, size within 4 pixels), also those
embedded in a page; scripts and other embedded data are exact, anything on stderr fails, a cell that was
never executed fails. Every kernel runs one torch thread (OMP_NUM_THREADS=1) unless the environment says
otherwise. A trailing `;` works.

A cell's tags loosen its own comparison, and nothing else's:

    rtol-1e-2       decimals within 1 %
    atol-0.05       decimals within 0.05
    trained-0.05    the cell's figures come from training: decimals and integers within 5 %
    picture-0.12    pictures within 0.12 instead of 0.06
"""

import base64
import io
import math
import os
import re
from dataclasses import dataclass

import pytest
from outputs import clean

NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")
PADDED_NUMBER = re.compile(r"[ \t]*" + NUMBER.pattern)
VERBATIM = re.compile(r"<script\b.*?</script>|<style\b.*?</style>|data:[\w/+.-]+;base64,[\w/+=]+", re.DOTALL)
IMAGES = ("image/png", "image/jpeg")
PATIENCE = 180  # seconds that a busy machine may take to start a kernel or to hand over an output
NOT_RUN = {"nbval-skip", "skip-execution"}


@dataclass
class Tolerance:
    """How far a cell's figures may be from the committed ones."""

    rtol: float = 1e-3
    atol: float = 1e-6
    picture: float = 0.06
    integers: bool = False

    @classmethod
    def from_tags(cls, tags):
        tolerance = cls()
        for tag in tags:
            kind, _, value = tag.partition("-")
            if kind in ("rtol", "atol", "picture"):
                setattr(tolerance, kind, float(value))
            elif kind == "trained":
                tolerance.rtol, tolerance.integers = float(value or 1e-2), True
        return tolerance


def is_integer(text):
    return re.fullmatch(r"[-+]?\d+", text) is not None


def numbers_agree(old, new, tolerance):
    if old == new:
        return True
    if is_integer(old) and is_integer(new) and not tolerance.integers:
        return False
    return math.isclose(float(old), float(new), rel_tol=tolerance.rtol, abs_tol=tolerance.atol)


def texts_agree(old, new, tolerance):
    """The same words, and every number within its tolerance."""
    if old == new:
        return True
    if PADDED_NUMBER.sub("#", old) != PADDED_NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(numbers_agree(a, b, tolerance) for a, b in pairs)


def pages_agree(old, new, tolerance):
    """HTML: scripts, styles and embedded data exact (pictures coarse), the rest like text."""
    if old == new:
        return True
    blobs = list(zip(VERBATIM.findall(old), VERBATIM.findall(new), strict=False))
    same = all(a == b or _embedded_pictures_agree(a, b, tolerance) for a, b in blobs)
    return same and texts_agree(VERBATIM.sub("@", old), VERBATIM.sub("@", new), tolerance)


def _embedded_pictures_agree(old, new, tolerance):
    heads = [blob.partition(";base64,")[0].removeprefix("data:") for blob in (old, new)]
    if heads[0] != heads[1] or heads[0] not in IMAGES:
        return False
    return pictures_agree(old.partition(",")[2], new.partition(",")[2], tolerance)


def pictures_agree(old, new, tolerance):
    """Base64 pictures: nearly the same size, and the same seen from far away."""
    if old.split() == new.split():
        return True
    import numpy as np
    from PIL import Image

    pictures = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in (old, new)]
    if any(abs(a - b) > 4 for a, b in zip(pictures[0].size, pictures[1].size, strict=True)):
        return False
    small = [np.asarray(p.resize((24, 24), Image.Resampling.BOX), float) / 255 for p in pictures]
    return bool(abs(small[0] - small[1]).max() < tolerance.picture)


def values_agree(mime, old, new, tolerance):
    if not isinstance(old, str) or not isinstance(new, str):
        return old == new
    compare = pictures_agree if mime in IMAGES else pages_agree if mime == "text/html" else texts_agree
    return compare(old, new, tolerance)


def outputs_differ(old, new, tolerance):
    """Compare a cell's committed outputs with fresh ones; return one sentence, or None if they agree."""
    old, new = clean(old), clean(new)
    for output in new:
        if output["output_type"] == "stream" and output["name"] == "stderr":
            return f"The cell wrote to stderr: {output['text'].strip()}"
    if len(old) != len(new):
        return f"Committed with {len(old)} outputs, now {len(new)}: {_kinds(old)} against {_kinds(new)}."
    differences = (_difference(a, b, tolerance) for a, b in zip(old, new, strict=True))
    return next((text for text in differences if text), None)


def _kinds(outputs):
    return [o.get("name") or sorted(o.get("data", {})) or o["output_type"] for o in outputs]


def _difference(old, new, tolerance):
    parts = [_parts(output) for output in (old, new)]
    if parts[0].keys() != parts[1].keys():
        return f"Committed as {sorted(parts[0])}, now {sorted(parts[1])}."
    for mime, before in parts[0].items():
        after = parts[1][mime]
        if not values_agree(mime, before, after, tolerance):
            return f"{mime} differs.\n--- committed\n{_short(before)}\n--- now\n{_short(after)}"
    return None


def _parts(output):
    """What of an output is compared, by name; the name of a stored number belongs to its value."""
    if output["output_type"] == "stream":
        return {output["name"]: output["text"]}
    if output["output_type"] == "error":
        return {"ename": output["ename"], "evalue": output["evalue"]}
    record = output["metadata"].get("scrapbook", {}).get("name")
    return {**output["data"], **({"number": record} if record else {})}


def _short(value, limit=1500):
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text)} characters)"


def _compare_outputs(cell, test, ref, skip_compare=None):
    tags = cell.cell.metadata.get("tags", [])
    difference = outputs_differ(ref, test, Tolerance.from_tags(tags))
    cell.comparison_traceback = [difference] if difference else []
    return difference is None


def _execute(kernel, source, allow_stdin=None):
    # nbval runs cells without history, and IPython's trailing ";" needs history.
    return kernel.kc.execute(source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def pytest_configure(config):
    if not config.getoption("nbval", False):
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config.option.nbval_kernel_startup_timeout = max(config.option.nbval_kernel_startup_timeout, PATIENCE)
    from nbval.kernel import RunningKernel
    from nbval.plugin import IPyNbCell

    IPyNbCell.compare_outputs = _compare_outputs
    RunningKernel.execute_cell_input = _execute


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    cell = getattr(item, "cell", None)
    item.output_timeout = PATIENCE
    if cell is None or cell.execution_count is not None or not cell.source.strip():
        return
    if not NOT_RUN & set(cell.metadata.get("tags", [])):
        item.raise_cell_error("The cell was never executed: build the notebook again and commit it.")
