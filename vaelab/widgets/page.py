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
