"""The explorer: drag a point over a two-dimensional latent map and see the picture it decodes to.

One class for three places. In JupyterLab it is an anywidget with a two-way `z`. In the published page the same
markup and the same JavaScript run the exported decoder, with no kernel and no network. Where scripts are off, or
a notebook is not yet trusted, the markup alone shows the map and one decoded picture.
"""

import hashlib
import html
from collections.abc import Sequence

import numpy as np
import torch
import traitlets
from PIL import Image
from torch import nn

from vaelab.plots import TINY, colours, mosaic
from vaelab.widgets import export
from vaelab.widgets.page import PageWidget, as_bytes, read, uri

SCRIPT, STYLE = read("engine.js", "explorer.js", "elements.js"), read("explorer.css")
TILES = 11  # pictures across the map; odd, so that one stands at the centre
TILES_PIXELS = 440  # the map's picture: sharp enough for its 384 css pixels, and light


class Panel:
    """One decoder and its map.

    decoder  codes (N, 2) -> pictures (N, 1 or 3, H, W) in [0, 1]: a module whose layers run in order, or a
             `vaelab` model with two latent dimensions. At most 150,000 parameters and 15 million multiply-adds.
    codes    (N, 2) codes of real pictures, shown as dots; `labels` (N,) colours and names them.
    extent   the map shows [-extent, extent]².
    item     what one picture is, for "nearest real ad".
    alt      one sentence for those who cannot see the map.
    start    the point at first.

    Raises ValueError or TypeError in one sentence for a decoder that is too heavy or cannot be exported.
    """

    def __init__(
        self,
        name: str,
        decoder: nn.Module,
        codes: torch.Tensor | None = None,
        labels: Sequence | None = None,
        extent: float = 3.0,
        item: str = "picture",
        alt: str = "A map of the pictures decoded across the latent plane.",
        start: tuple[float, float] = (0.0, 0.0),
    ):
        export.check_budget(decoder)
        self.name, self.extent, self.item, self.alt, self.start = name, extent, item, alt, tuple(map(float, start))
        self.layers = export.layers(decoder)
        self.decoder = export.pack(self.layers)
        self.codes = np.zeros((0, 2)) if codes is None else np.asarray(codes, dtype=np.float64)
        if self.codes.ndim != 2 or self.codes.shape[1] != 2:
            raise ValueError(f"Panel {name!r}: codes of shape (N, 2) are needed, these are {self.codes.shape}.")
        if labels is not None and len(labels) != len(self.codes):
            raise ValueError(f"Panel {name!r}: {len(self.codes)} codes and {len(labels)} labels; give one for each.")
        words = [str(label) for label in labels] if labels is not None else []
        self.names = sorted(set(words))
        self.kinds = [self.names.index(word) for word in words] or [0] * len(self.codes)

    @property
    def tiny(self) -> bool:
        """Whether the pictures are so small that their pixels stay hard."""
        return max(self.decoder["h"], self.decoder["w"]) < TINY

    def spec(self) -> dict:
        """What the JavaScript needs to know; all of it the same on every machine (see `_measured`)."""
        return {
            "name": self.name, "item": self.item, "extent": self.extent, "start": self.start, "names": self.names,
            "decoder": self.decoder, "width": self.decoder["w"], "height": self.decoder["h"],
        }  # fmt: skip

    def markup(self) -> str:
        """The still pictures and words, on which the JavaScript builds."""
        hard = " vx-hard" if self.tiny else ""
        x, y = self.start
        return (
            f'<section class="vx-panel"><p class="vx-name">{html.escape(self.name)}</p><div class="vx-stage">'
            f'<div class="vx-map" {self._measured()}><img class="vx-tiles{hard}" width="320" draggable="false" '
            f'alt="{html.escape(self.alt)}" src="{self._tiles()}">{self._dots()}</div>'
            f'<div class="vx-side"><img class="vx-picture{hard}" width="256" src="{self._picture()}" '
            f'alt="The picture decoded at z = ({x:.2f}, {y:.2f}).">'
            f'<p class="vx-readout"><span class="vx-z">z = ({x:.2f}, {y:.2f})</span><span class="vx-near"></span></p>'
            f'</div><div class="vx-notes">{self._legend()}'
            '<p class="vx-help">A still picture. Where scripts run, a point can be dragged over the map.</p>'
            "</div></div></section>"
        )

    def _measured(self) -> str:
        """Codes (x, y, kind) and their spacing as attributes, outside the script: an encoder's last digits differ
        between processors, and a check of committed notebooks allows that for numbers, not for scripts."""
        triples = " ".join(f"{x:.6f} {y:.6f} {kind}" for (x, y), kind in zip(self.codes, self.kinds, strict=True))
        return f'data-codes="{triples}" data-far="{_spacing(self.codes):.6f}"'

    def _tiles(self) -> str:
        gap = max(1, self.decoder["w"] // 16)
        tiles = mosaic(lambda z: self.layers(z.double()), self.extent, TILES, gap)
        picture = Image.fromarray(as_bytes(tiles))
        if self.tiny:
            return uri(picture, "PNG")
        return uri(picture.resize((TILES_PIXELS, TILES_PIXELS), Image.Resampling.LANCZOS), "JPEG", quality=84)

    def _picture(self) -> str:
        z = torch.tensor([self.start], dtype=torch.float64)
        pixels = self.layers(z)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        return uri(Image.fromarray(as_bytes(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))), "PNG")

    def _dots(self) -> str:
        """Codes as one SVG path a kind: a dot is a line of no length with round ends."""
        paths = ""
        radius = 6 if len(self.codes) <= 300 else 4.5
        for kind, own in enumerate(colours(self.names or ["code"])):
            points = self.codes[np.asarray(self.kinds) == kind] / self.extent
            line = "".join(f"M{200 + 200 * x:.3f} {200 - 200 * y:.3f}h0" for x, y in points if max(abs(x), abs(y)) <= 1)
            for colour, width in (("#fff", radius + 2.4), (own, radius)):
                paths += f'<path d="{line}" stroke="{colour}" stroke-width="{width}"/>'
        return f'<svg class="vx-codes" viewBox="0 0 400 400" stroke-linecap="round" aria-hidden="true">{paths}</svg>'

    def _legend(self) -> str:
        keys = "".join(
            f'<span><i class="vx-key" style="background:{colour}"></i>{html.escape(name)}</span>'
            for name, colour in zip(self.names, colours(self.names), strict=True)
        )
        return f'<p class="vx-legend">{keys}</p>' if keys else ""


class Explorer(PageWidget):
    """Panels as tabs, each with its own map and point.

    `z` is the point of the panel shown, `panel` that panel's name: set them and the page follows, drag and they
    follow. Two explorers of the same content on one page do not disturb each other.
    """

    root, script = "vaelab-explorer", SCRIPT
    _esm = SCRIPT + read("explorer_notebook.js")
    panel = traitlets.Unicode().tag(sync=True)
    z = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)

    def __init__(self, *panels: Panel, name: str = "explorer"):
        if not panels:
            raise ValueError("An Explorer needs at least one Panel.")
        content = name + "".join(panel.name + panel.decoder["weights"] for panel in panels)
        self._id = f"{self.root}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        self._says = f"Explorer({', '.join(_says(panel) for panel in panels)})"
        markup = "".join(panel.markup() for panel in panels)
        super().__init__(
            body=f'<div class="{self.root}" id="{self._id}"><style>{STYLE}</style>{markup}</div>',
            spec={"panels": [panel.spec() for panel in panels]},
            panel=panels[0].name,
            z=list(panels[0].start),
        )

    @traitlets.validate("panel")
    def _known(self, proposal):
        names = [panel["name"] for panel in self.spec["panels"]]
        if proposal["value"] not in names:
            raise ValueError(f"The explorer has no panel {proposal['value']!r}; it has {', '.join(names)}.")
        return proposal["value"]

    def __repr__(self):
        return self._says


def _says(panel: Panel) -> str:
    return f"{panel.name}: z (2,) → picture ({panel.decoder['c']}, {panel.decoder['h']}, {panel.decoder['w']})"


def _spacing(codes: np.ndarray) -> float:
    """Beyond this distance a point counts as far: 99 of 100 codes have a neighbour nearer than that."""
    if len(codes) < 2:
        return 0.0
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float(np.quantile(distances.min(1), 0.99))
