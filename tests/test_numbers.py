"""A stored number is what MyST-NB's glue would store, and stays silent elsewhere."""

import pytest

from vaelab import numbers
from vaelab.numbers import number


@pytest.fixture
def shown(monkeypatch):
    """What `number` hands to the notebook."""
    calls = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda data, **options: calls.append((data, options)))
    return calls


@pytest.mark.parametrize(
    ("value", "format", "text"),
    [
        (0.12345, ".2f", "'0.12'"),
        (0.13, ".3f", "'0.130'"),
        (1234, ",d", "'1,234'"),
        (0.5, ".0%", "'50%'"),
        ("as said", "", "'as said'"),
        (-3.0, "+.1f", "'-3.0'"),
    ],
)
def test_record(shown, value, format, text):
    number("share", value, format)
    [(data, options)] = shown
    assert data == {"application/papermill.record/text/plain": text}
    record = {"name": "share", "mime_prefix": "application/papermill.record/"}
    assert options == {"raw": True, "metadata": {"scrapbook": record}}


def test_same_record_as_glue(shown):
    glue = pytest.importorskip("myst_nb").glue
    import myst_nb.ext.glue as module

    module.ipy_display, old = lambda data, **options: shown.append((data, options)), module.ipy_display
    try:
        glue("share", "3", display=False)
    finally:
        module.ipy_display = old
    number("share", 3)
    assert shown[0][0] == shown[1][0]
    assert shown[0][1]["metadata"] == shown[1][1]["metadata"]


def test_silent_outside_a_notebook(capsys):
    assert number("share", 0.5, ".2f") is None
    assert capsys.readouterr().out == ""


def test_wrong_format_is_named():
    with pytest.raises(ValueError, match=r"number 'share': cannot write 0.5 as ',d'"):
        number("share", 0.5, ",d")


def test_prefix_is_glues():
    glue = pytest.importorskip("myst_nb.ext.glue")
    assert glue.GLUE_PREFIX == numbers.PREFIX
