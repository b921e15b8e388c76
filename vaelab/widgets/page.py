"""What every live figure shares: one piece of markup and script for the notebook, the page and the still."""

import base64
import io
import json
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

HERE = Path(__file__).parent
GUTTER = 8  # pixels round each frame of a sheet, copies of its border: no neighbour shines through
BLOCK = 16  # JPEG with halved colour stores squares of 16 pixels: none of them spans two frames


def read(*names: str) -> str:
    """These files of the folder, one after the other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] as whole numbers from 0 to 255."""
    return (pixels * 255).round().astype(np.uint8)


def uri(image: Image.Image, kind: str, **options) -> str:
    """The picture as an address that carries its own data; `kind` is PNG or JPEG, `options` are Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def cell(height: int, width: int) -> list[int]:
    """Height and width that a frame takes up in a `sheet`, in pixels."""
    return [side + 2 * GUTTER + -side % BLOCK for side in (height, width)]


def sheet(frames: np.ndarray, columns: int) -> Image.Image:
    """Frames (T, H, W, 3) uint8 in one picture, row by row, each framed by copies of its own border."""
    count, height, width, _ = frames.shape
    (high, wide), rows = cell(height, width), -(-count // columns)
    borders = (GUTTER, high - height - GUTTER), (GUTTER, wide - width - GUTTER)
    cells = np.pad(frames, [(0, rows * columns - count), *borders, (0, 0)], mode="edge")
    grid = cells.reshape(rows, columns, high, wide, 3).swapaxes(1, 2)
    return Image.fromarray(grid.reshape(rows * high, columns * wide, 3))


class PageWidget(anywidget.AnyWidget):
    """An anywidget whose `body`, still markup in a div of class `root`, is also a page of its own.

    `script` defines `mount(root, spec)`. In JupyterLab `_esm` mounts the markup; in a published page the script
    beside it does, and nothing is fetched; where scripts are off the markup stands as it is.
    """

    root = script = ""
    body = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)

    def to_html(self) -> str:
        """The figure as self-contained HTML: nothing is fetched."""
        spec = json.dumps(self.spec, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        script = f'{self.script}\nmount(document.currentScript.closest(".{self.root}"), {spec});'
        return self.body.removesuffix("</div>") + f"<script>(() => {{{script}}})();</script></div>"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.to_html(), "text/plain": repr(self)}, metadata
