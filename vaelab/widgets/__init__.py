"""What a reader can drag: see `explorer` and `filmstrip`."""

from vaelab.widgets.explorer import Explorer, Panel
from vaelab.widgets.export import count_multiply_adds, count_parameters
from vaelab.widgets.filmstrip import Filmstrip, Reel

__all__ = ["Explorer", "Filmstrip", "Panel", "Reel", "count_multiply_adds", "count_parameters"]
