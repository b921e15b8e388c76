"""The filmstrip: drag along a row of pictures, one shown at a time, and see what was measured on the way.

One class for three places, as the explorer is: an anywidget in JupyterLab, a page of its own with no kernel and no
network, and a still where scripts are off. All that was measured stands in the markup and none of it in the script:
its last digits differ between processors, and a check of committed notebooks allows that for numbers and pictures.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

import numpy as np
import torch
import traitlets
from matplotlib.ticker import MaxNLocator

from vaelab.plots import TINY, colours
from vaelab.widgets.page import PageWidget, as_bytes, cell, read, sheet, uri

SCRIPT, STYLE = read("filmstrip.js", "elements.js"), read("filmstrip.css")
REEL, CHART = Template(read("filmstrip.html")), Template(read("filmstrip.svg"))
MOST_FRAMES = 41
MOST_KB = 400  # of a reel's picture, as the page carries it
ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values
LEFT, RIGHT, TOP, BOTTOM = 52, 348, 38, 244  # of the box with the curves, in filmstrip.svg


class Reel:
    """A row of pictures, and what goes with each.

    frames     (T, 1 or 3, H, W) in [0, 1], T from 2 to 41.
    curves     name -> (T,) values, drawn in one chart with a cursor; the value at the cursor stands beside the name.
    positions  (T,) rising x values, evenly spaced or not; 0 to 1 if not given.
    marks      label -> position: a labelled line in the chart.
    band       (low, high): positions shaded in the chart, such as an uncertainty.
    words      T sentences, shown below the picture.
    start      the frame that the still shows; a filmstrip begins at that of its first reel.
    alt        one sentence for those who cannot see the pictures.

    Raises ValueError in one sentence for inputs that do not fit together, or pictures too heavy for a page.
    """

    def __init__(
        self, name: str, frames: torch.Tensor, curves: Mapping[str, Sequence] | None = None,
        positions: Sequence | None = None, marks: Mapping[str, float] | None = None,
        band: tuple[float, float] | None = None, xlabel: str = "position", ylabel: str = "",
        words: Sequence[str] | None = None, start: int = 0, alt: str | None = None,
    ):  # fmt: skip
        count = len(frames)
        fits = frames.ndim == 4 and frames.shape[1] in (1, 3) and 2 <= count <= MOST_FRAMES
        _need(fits, name, f"frames of shape (2 to {MOST_FRAMES}, 1 or 3, H, W), not {tuple(frames.shape)}")
        self.name, self.start, self.xlabel, self.ylabel = name, range(count)[start], xlabel, ylabel
        self.alt = alt or f"{name}: {count} pictures in a row, shown one at a time."
        self.words = list(words) if words is not None else [f"{i} of {count}" for i in range(1, count + 1)]
        _need(len(self.words) == count, name, f"words for each of its {count} frames, not {len(self.words)}")
        self.positions = np.linspace(0, 1, count) if positions is None else np.asarray(positions, dtype=np.float64)
        self.curves = {key: np.asarray(values, dtype=np.float64) for key, values in (curves or {}).items()}
        for what, values in {"positions": self.positions, **self.curves}.items():
            fits = values.shape == (count,) and np.isfinite(values).all()
            _need(fits, name, f"one finite number for each of its {count} frames in {what!r}")
        _need((np.diff(self.positions) > 0).all(), name, "positions that rise from frame to frame")
        _need(curves or not (marks or band), name, "curves, for marks and band to stand beside")
        self.colours = dict(zip(self.curves, colours(list(self.curves)), strict=True))
        self.marks, self.band = sorted((marks or {}).items(), key=lambda mark: mark[1]), band
        self.measured = ({xlabel: self.positions} if curves or positions is not None else {}) | self.curves
        pixels = frames.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1)
        self.frames = as_bytes(pixels.expand(-1, -1, -1, 3).numpy())
        self.tiny = max(frames.shape[2:]) < TINY  # then its pixels stay hard
        self.columns, self.cell = math.ceil(math.sqrt(count)), cell(*frames.shape[2:])
        self.sprite = self._sprite()
        weight = len(self.sprite) // 1000
        _need(weight <= MOST_KB, name, f"fewer or smaller frames: these are {weight} kB, at most {MOST_KB} suit a page")

    def _sprite(self) -> str:
        picture = sheet(self.frames, self.columns)
        return uri(picture, "PNG") if self.tiny else uri(picture, "JPEG", quality=88, optimize=True)

    def markup(self, reels: Sequence["Reel"] = ()) -> str:
        """The still, its chart and its words, on which the JavaScript builds; charts alike have one scale."""
        row, column = divmod(self.start, self.columns)
        return REEL.substitute(
            name=escape(self.name), alt=escape(self.alt), said=escape(self.words[self.start]),
            words=escape(json.dumps(self.words, ensure_ascii=False)), row=row, column=column, columns=self.columns,
            height=self.frames.shape[1], width=self.frames.shape[2], cell_height=self.cell[0], cell_width=self.cell[1],
            sprite=self.sprite, hard="vf-hard" if self.tiny else "", positions=" ".join(f"{x:.6g}" for x in self.positions),
            chart=self._chart(reels or [self]) if self.curves else "", values="".join(map(self._value, self.measured)),
        )  # fmt: skip

    def _value(self, name: str) -> str:
        values = self.measured[name]
        key = f'<i style="background:{self.colours[name]}"></i>' if name in self.curves else ""
        # As few decimals as tell the values: none for counts, two for shares, one for what is larger and measured.
        size, least = np.abs(values).max() or 1.0, 1 if name in self.curves else 2
        most = max(least, 2 - math.ceil(math.log10(size) - 1e-3))
        digits = next((d for d in range(most) if np.allclose(values, values.round(d), rtol=0, atol=1e-9)), most)
        value = f"{values[self.start].round(digits) + 0:.{digits}f}".replace("-", "−")
        return f'<div><dt>{key}{escape(name)}</dt><dd data-digits="{digits}">{value}</dd></div>'

    def _chart(self, reels: Sequence["Reel"]) -> str:
        """The curves as SVG. The inner box has the data's own units, so that the page carries plain values."""
        alike = [value for reel in reels if reel.curves.keys() == self.curves.keys() for value in reel.curves.values()]
        bottom, top = np.min(alike), np.max(alike)
        if bottom >= 0:  # shares run to 1, and whatever comes near nought begins there
            bottom, top = 0.0 if bottom < top / 2 else bottom, 1.0 if 0.5 < top < 1 else top
        slack = (top - bottom) / 100 or -0.5  # a hair beyond the last line makes no new one
        rungs = ticks(bottom + slack, top - slack)
        (first, last), (low, high), at = self.positions[[0, -1]], rungs[[0, -1]], self.positions[self.start]
        across = lambda x: LEFT + (RIGHT - LEFT) * (x - first) / (last - first)
        up = lambda y: BOTTOM - (BOTTOM - TOP) * (y - low) / (high - low)
        labels = [(across(x), BOTTOM + 18, f"{x:.6g}") for x in ticks(first, last) if first <= x <= last]
        for i, (label, x) in enumerate(self.marks):  # in two rows by turns, and none of them beyond the border
            half = 3.4 * len(label)
            labels.append((np.clip(across(x), half, RIGHT + 12 - half), TOP - 8 - 15 * (i % 2), label))
        lines = dots = ""
        for name, values in self.curves.items():
            points = " ".join(f"{x:.6g},{y:.6g}" for x, y in zip(self.positions, values, strict=True))
            lines += f'<polyline points="{points}" stroke="{self.colours[name]}"/>'
            dots += f'<path class="vf-dot" d="M{at:.6g} {values[self.start]:.6g}h0" stroke="{self.colours[name]}"/>'
        return CHART.substitute(
            xlabel=escape(self.xlabel), ylabel=escape(self.ylabel), lines=lines, dots=dots,
            view=f"{first:.6g} {-high:.6g} {last - first:.6g} {high - low:.6g}",
            at=f"{at:.6g}", bottom=f"{low:.6g}", top=f"{high:.6g}",
            band="M{0:.6g} {2:.6g}H{1:.6g}V{3:.6g}H{0:.6g}z".format(*self.band, low, high) if self.band else "",
            rungs="".join(f"M{first:.6g} {y:.6g}H{last:.6g}" for y in rungs),
            marks="".join(f"M{x:.6g} {low:.6g}V{high:.6g}" for _, x in self.marks),
            labels="".join(_text(*label) for label in labels),
            sizes="".join(_text(LEFT - 8, up(y) + 4, f"{y:.6g}") for y in rungs),
        )  # fmt: skip


class Filmstrip(PageWidget):
    """Reels as tabs, all at the same position, so that they compare at the same point.

    `position` is the frame shown, counted from 0, and `reel` the name of the reel shown: set them and the page
    follows, drag and they follow. Several filmstrips on one page do not disturb each other.
    """

    root, script = "vaelab-filmstrip", SCRIPT
    _esm = SCRIPT + read("filmstrip_notebook.js")
    reel = traitlets.Unicode().tag(sync=True)
    position = traitlets.Int().tag(sync=True)

    def __init__(self, *reels: Reel, name: str = "filmstrip"):
        lengths = sorted({len(reel.frames) for reel in reels})
        if len(lengths) != 1:
            raise ValueError(f"A Filmstrip takes reels of equal length; these have {lengths} frames.")
        names, state = [reel.name for reel in reels], {"reel": reels[0].name, "position": reels[0].start}
        own = f"{self.root}-{hashlib.sha256(' '.join([name, *names]).encode()).hexdigest()[:8]}"
        body = f'<div class="{self.root}" id="{own}"><style>{STYLE}</style>{"".join(r.markup(reels) for r in reels)}</div>'
        super().__init__(body=body, spec={"reels": names, "frames": lengths[0], **state}, **state)

    @traitlets.validate("reel", "position")
    def _known(self, proposal):
        wanted, names, frames = proposal["value"], self.spec["reels"], self.spec["frames"]
        if wanted not in (names if proposal["trait"].name == "reel" else range(frames)):
            raise ValueError(f"The filmstrip has no {wanted!r}; it has {', '.join(names)}, each of {frames} frames.")
        return wanted

    def __repr__(self):
        return f"Filmstrip({', '.join(self.spec['reels'])}: {self.spec['frames']} frames each)"


def _need(fits: bool, reel: str, what: str) -> None:
    if not fits:
        raise ValueError(f"Reel {reel!r} needs {what}.")


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}">{escape(words)}</text>'
