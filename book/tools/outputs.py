"""What a committed notebook keeps of a cell's outputs.

The build applies this before it writes a notebook; the comparer applies it to what it has just
run; so both speak about the same thing.
"""

import re

WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = "*Live controls: open this chapter as a notebook to use them.*"
PROGRESS = re.compile(r"\d+%\|")
FONT_CACHE = re.compile(r"^Matplotlib is building the font cache.*\n?", re.MULTILINE)  # a machine's first run


def clean(outputs):
    """Return plain-dict outputs: streams joined, progress bars dropped, widget views replaced."""
    kept = []
    for output in (_plain(o) for o in outputs):
        if output["output_type"] == "stream":
            _join_stream(kept, output)
        elif output["output_type"] == "error":
            kept.append(output)
        elif (data := _clean_data(output["data"])) is not None:
            kept.append({**output, "data": data})
    return [o for o in kept if o.get("text", True)]


def _plain(output):
    output = {key: value for key, value in dict(output).items() if key != "transient"}
    if output["output_type"] in ("display_data", "execute_result"):
        output["data"] = {mime: _joined(value) for mime, value in dict(output["data"]).items()}
        output["metadata"] = dict(output.get("metadata", {}))
    return output


def _joined(value):
    return "".join(value) if isinstance(value, list) else value


def _join_stream(kept, output):
    text = _joined(output["text"])
    for other in kept:
        if other["output_type"] == "stream" and other["name"] == output["name"]:
            other["text"] = _final_text(other["text"] + text)
            return
    kept.append({"output_type": "stream", "name": output["name"], "text": _final_text(text)})


def _final_text(text):
    """What a terminal would show in the end: a carriage return overwrites its line."""
    return FONT_CACHE.sub("", re.sub(r"^.*\r(?=[^\n])", "", text, flags=re.MULTILINE))


def _clean_data(data):
    if WIDGET not in data:
        return data
    if PROGRESS.search(data.get("text/plain", "")):
        return None
    rest = {mime: value for mime, value in data.items() if mime != WIDGET}
    still = any(mime == "text/html" or mime.startswith("image/") for mime in rest)
    return rest if still else {"text/markdown": LIVE}
