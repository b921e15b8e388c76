"""Numbers for prose: a cell measures, the sentence quotes, and neither can go stale alone."""

PREFIX = "application/papermill.record/"


def number(name, value, format=""):
    """Store `value` under `name` so that the text can quote it as {glue:text}`name`.

    Emits the record that MyST-NB's `glue` emits, through IPython alone, so it works where no book
    tools are installed. Shows nothing, and outside IPython does nothing.

    Args:
        name: what the text calls it; unique in the notebook.
        value: a number or a string.
        format: a format specification such as ".2f", ",d" or ".0%"; empty means `str(value)`.

    Returns:
        None.

    Raises:
        ValueError: `format` does not fit `value`.
    """
    try:
        text = f"{value:{format}}"
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"number {name!r}: cannot write {value!r} as {format!r}; use a format such as '.2f'."
        ) from error
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is None:
        return
    record = {"scrapbook": {"name": name, "mime_prefix": PREFIX}}
    # In quotes, as glue stores a string: bare, the page would read 0.130 as a number and print 0.13.
    display({PREFIX + "text/plain": repr(text)}, raw=True, metadata=record)
