"""The review: a creative team looks at made ads one by one, as at layouts, and says which would go out.

One class for two places, as the filmstrip is. In JupyterLab each decision is in Python and in a file at once.
In the published page the same tool works with no kernel, and its decisions live as long as the page does.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch
import traitlets

from vaelab.intervals import paired
from vaelab.metrics import Interval, wilson
from vaelab.plots import TINY
from vaelab.storage import StorageError, replace_file
from vaelab.widgets.filmstrip import MOST_KB
from vaelab.widgets.page import PageWidget, as_bytes, cell, read, sheet, uri

SCRIPT, STYLE = read("review.js", "elements.js"), read("review.css")
CRITERIA = ("composition", "colour", "product presentation")
MOST = 100  # pictures in one sitting: more tire the eye
VERDICTS = ("accept", "reject")


class Review(PageWidget):
    """Made pictures, each with a verdict, a score from 1 to 5 for every criterion, and a note.

    pictures  (N, 3, H, W) in [0, 1], made ads, N up to 100.
    file      where the decisions are kept, as JSON: a review of the same pictures goes on where it ends.
    sources   (N, 3, H, W): the real ad that each came from, shown beside it.
    names     N names, "1 of N" and so on if not given.
    criteria  what is scored.

    `decisions` is {name: {"verdict": "accept", "reject", None, "scores": {criterion: 1–5}, "note": text}}:
    set it and the page follows, decide in the page and it follows. Every change is written to `file` at once;
    where that fails, `trouble` says why, here and in the page.

    Raises ValueError in one sentence for inputs that do not fit together, pictures too heavy for a page, and
    a file of other pictures, names or criteria, or a broken one, which stays as it is; StorageError for one
    that cannot be written.
    """

    root, script = "vaelab-review", SCRIPT
    _esm = SCRIPT + read("review_notebook.js")
    decisions = traitlets.Dict().tag(sync=True)
    trouble = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, pictures: torch.Tensor, file: str | Path, sources: torch.Tensor | None = None,
        names: Sequence[str] | None = None, criteria: Sequence[str] = CRITERIA,
    ):  # fmt: skip
        n, sides = len(pictures), [pictures] if sources is None else [pictures, sources]
        fits = pictures.ndim == 4 and pictures.shape[1] == 3 and 1 <= n <= MOST
        _need(fits, f"pictures of shape (1 to {MOST}, 3, H, W), not {tuple(pictures.shape)}")
        alike = sides[-1].shape == pictures.shape
        _need(alike, f"sources of the pictures' shape, not {tuple(sides[-1].shape)}")
        _need(all(torch.isfinite(side).all() for side in sides), "finite pictures and sources; leave NaN out")
        self.names = [f"{i} of {n}" for i in range(1, n + 1)] if names is None else list(map(str, names))
        self.criteria, self.file = list(criteria), Path(file)
        distinct = len(set(self.names)) == len(self.names) == n
        _need(distinct, f"{n} names, all different; these are {self.names}")
        distinct = 0 < len(set(self.criteria)) == len(self.criteria) < 9
        _need(distinct, f"1 to 8 criteria, all different, not {self.criteria}")
        frames = as_bytes(torch.cat(sides).detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).numpy())
        # Eight bits a pixel, as the eye gets them: so a picture may come from a tensor or from its PNG.
        self.fingerprint = hashlib.sha256(repr(frames[:n].shape).encode() + frames[:n].tobytes()).hexdigest()
        columns = math.ceil(math.sqrt(len(frames)))
        spec = {"names": self.names, "criteria": self.criteria, "file": self.file.name, "columns": columns}
        spec["sources"] = sources is not None
        super().__init__(body=self._markup(frames, columns), spec=spec, decisions=self._resume())
        self._written()

    def _markup(self, frames, columns) -> str:
        """The first picture, on which the JavaScript builds; all others lie in the same image."""
        height, width = frames.shape[1:3]
        (high, wide), tiny = cell(height, width), max(height, width) < TINY
        sprite = uri(sheet(frames, columns), "PNG" if tiny else "JPEG", quality=88, optimize=True)
        kb = len(sprite) // 1000
        _need(kb <= MOST_KB, f"fewer or smaller pictures: these are {kb} kB, at most {MOST_KB} suit a page")
        size = f"--w:{width};--h:{height};--cell-w:{wide};--cell-h:{high};--columns:{columns}"
        return (
            f'<div class="{self.root}" style="{size};--r:0;--c:0"><style>{STYLE}</style>'
            f'<p class="vr-head"><b class="vr-name">{escape(self.names[0])}</b></p><div class="vr-stage">'
            '<div class="vr-pair"><div class="vr-made"><div class="vr-window"><img draggable="false" '
            f'class="vr-sprite {"vr-hard" if tiny else ""}" alt="A made picture." src="{sprite}"></div>'
            '<p>made</p></div></div></div><p class="vr-help">A still picture, the first of '
            f"{len(self.names)}. Where scripts run, one can look at all of them and decide.</p></div>"
        )

    def _resume(self) -> dict:
        """What the file says so far, or nothing decided yet. A file that does not fit is left alone."""
        none = {name: {"verdict": None, "scores": {}, "note": ""} for name in self.names}
        if not self.file.exists():
            return none
        try:
            record = json.loads(self.file.read_bytes())
            found = record["decisions"]
            sound = self._sound(found, found, record["criteria"])
            other = [key for key in ("pictures", "criteria") if record[key] != self._record()[key]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._refuse(f"it cannot be read, or no review wrote it: {type(error).__name__}")
        if not sound:
            self._refuse("some of its decisions are damaged")
        if other or found.keys() != none.keys():
            self._refuse(f"it is of other {(other or ['names'])[0]}")
        return found

    def _refuse(self, why):
        advice = "name another file, or move that one away"
        raise ValueError(f"This review cannot go on in {self.file} ({why}): {advice}.")

    def _record(self) -> dict:
        return {"pictures": self.fingerprint, "criteria": self.criteria, "decisions": self.decisions}

    @staticmethod
    def _sound(decisions, names, criteria) -> bool:
        """Whether these are decisions on exactly these names, by these criteria."""
        grades = lambda scores: all(type(score) is int and 1 <= score <= 5 for score in scores.values())
        scored = lambda scores: scores.keys() <= {*criteria} and grades(scores)
        return decisions.keys() == {*names} and all(
            one.keys() == {"verdict", "scores", "note"} and one["verdict"] in (None, *VERDICTS)
            and isinstance(one["scores"], dict) and scored(one["scores"]) and isinstance(one["note"], str)
            for one in decisions.values()
        )  # fmt: skip

    @traitlets.validate("decisions")
    def _valid(self, proposal):
        try:
            sound = self._sound(proposal["value"], self.names, self.criteria)
        except (AttributeError, TypeError):
            sound = False
        _need(sound, "decisions on exactly its names: verdict or None, scores from 1 to 5 by criterion, note")
        return proposal["value"]

    @traitlets.observe("decisions")
    def _save(self, _):
        try:
            words = json.dumps(self._record(), indent=1, ensure_ascii=False)
            replace_file(self.file, f"{words}\n".encode())
            self.trouble = ""
        except StorageError as error:  # the page says so: what is raised while it talks to Python nobody sees
            self.trouble = str(error)

    def _written(self):
        if self.trouble:
            raise StorageError(self.trouble)

    def decide(self, which: str | int, verdict: str | None = None, scores=None, note: str | None = None):
        """Does what clicks do, on the picture of this name or number from 0; what is None stays as it was.

        `verdict` is "accept" or "reject", `scores` {criterion: 1 to 5}, `note` a text. Raises ValueError for
        what is none of these, StorageError where it cannot be kept.
        """
        name = self.names[which] if type(which) is int and which in range(len(self.names)) else which
        known = f"one of its {len(self.names)} pictures, not {which!r}: give a name or a number from 0"
        _need(name in self.names, known)
        _need(verdict in (None, *VERDICTS), f"the verdict 'accept' or 'reject' for {name!r}, not {verdict!r}")
        old = self.decisions[name]
        changed = {"verdict": verdict or old["verdict"], "scores": {**old["scores"], **(scores or {})}}
        changed["note"] = old["note"] if note is None else note
        self.decisions = {**self.decisions, name: changed}
        self._written()

    @property
    def accepted(self) -> torch.Tensor:
        """Which pictures were accepted, (N,) of bool; one not yet decided was not."""
        return torch.tensor([self.decisions[name]["verdict"] == "accept" for name in self.names])

    def table(self) -> list[dict]:
        """What was found so far: records of "what", the number of pictures "n" it rests on, and its "value".

        First the mean score by each criterion, an `Interval` over pictures by Student's t; then the share
        accepted of those decided, by Wilson's. None stands for an interval of too few: fewer than two scores,
        or no verdict.
        """
        rows, every = [], [self.decisions[name] for name in self.names]
        for criterion in self.criteria:
            scores = [one["scores"][criterion] for one in every if criterion in one["scores"]]
            mean = paired(scores) if len(scores) > 1 else None
            rows.append({"what": criterion, "n": len(scores), "value": mean})
        n = sum(one["verdict"] is not None for one in every)
        share = int(self.accepted.sum()) / max(1, n)
        value = Interval(share, *wilson(share, n)) if n else None
        return [*rows, {"what": "accepted", "n": n, "value": value}]

    def to_html(self) -> str:
        """The tool as self-contained HTML, with what has been decided so far."""
        self.spec = {**self.spec, "decisions": self.decisions}
        return super().to_html()

    def __repr__(self):
        verdicts = [one["verdict"] for one in self.decisions.values() if one["verdict"]]
        return f"Review({len(verdicts)} of {len(self.names)} seen, {verdicts.count('accept')} accepted)"


def _need(fits, what: str) -> None:
    if not fits:
        raise ValueError(f"A Review needs {what}.")
