"""One page about one result: a verdict, one picture, one action; everything else folded. Plain HTML, and JSON beside.

The page needs no network, no script and no other file. Names and texts are escaped here, once.
"""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from vaelab.storage import replace_file

WORDS = 25  # a verdict has at most so many
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


@dataclass
class Report:
    """What is said about one result.

    Attributes:
        title: what this is about, in a few words.
        verdict: at most 25 words.
        picture: a PIL image; `alt`: what it shows, for those who cannot see it; `caption`: what to see in it.
        action: the one thing to do next, a sentence; `command`: how, to copy, if there is one.
        numbers: name -> (words, value, format) for a line of the folded table and the JSON; name -> value for the
            JSON alone.
        notes: heading -> sentences, each heading a fold.
    """

    title: str
    verdict: str
    picture: object
    alt: str
    caption: str
    action: str
    command: str = ""
    numbers: Mapping = field(default_factory=dict)
    notes: Mapping = field(default_factory=dict)

    def __post_init__(self):
        if len(self.verdict.split()) > WORDS:
            raise ValueError(f"A verdict has at most {WORDS} words: shorten {self.verdict!r}.")
        if not self.alt.strip():
            raise ValueError("The picture of a report needs an alt text: say what it shows.")

    @property
    def sentence(self):
        """Verdict, action and command in one line."""
        return f"{self.verdict} {self.action} {self.command}".strip()

    def page(self):
        """The report as a whole HTML page."""
        shown = [entry for entry in self.numbers.values() if isinstance(entry, tuple)]
        rows = (f"<tr><td>{escape(words)}</td><td>{escape(form.format(value))}</td></tr>" for words, value, form in shown)
        folds = {"The numbers": f"<table>{''.join(rows)}</table>"} if shown else {}
        for heading, lines in self.notes.items():
            folds |= {heading: f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"} if lines else {}
        folded = (f"<details><summary>{escape(name)}</summary>{inner}</details>" for name, inner in folds.items())
        command = f"<code>{escape(self.command)}</code>" if self.command else ""
        wide = ' class="wide"' if self.picture.width > 4 * self.picture.height else ""
        source = "data:image/jpeg;base64," + base64.b64encode(encode(self.picture, "jpeg")).decode()
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>"
            f'<body><main><p class="title">{escape(self.title)}</p><h1>{escape(self.verdict)}</h1>'
            f'<figure><div class="frame"><img{wide} src="{source}" alt="{escape(self.alt)}"></div>'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
            f'<div class="action"><p>{escape(self.action)}</p>{command}</div>{"".join(folded)}</main></body></html>\n'
        )

    def record(self):
        """Words and numbers as plain JSON values."""
        values = {name: entry[1] if isinstance(entry, tuple) else entry for name, entry in self.numbers.items()}
        words = {name: getattr(self, name) for name in ("title", "verdict", "action", "command")}
        return words | {"numbers": values, "notes": self.notes, "made_by": "vaelab"}

    def write(self, path):
        """Writes the page to `path` (.html) and the numbers beside it (.json); returns `path`."""
        replace_file(Path(path).with_suffix(".json"), as_json(self.record()))
        return replace_file(path, self.page().encode("utf-8", "replace"))


def encode(picture, kind):
    """A PIL image as the bytes of a JPEG ("jpeg") or PNG ("png") file."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, kind, **({"quality": 92, "subsampling": 0} if kind == "jpeg" else {}))
    return file.getvalue()


def as_json(record):
    """A record as the bytes of a JSON file; what is not a number (NaN) becomes null."""
    plain = json.loads(json.dumps(record), parse_constant=lambda _: None)
    return (json.dumps(plain, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8", "replace")
