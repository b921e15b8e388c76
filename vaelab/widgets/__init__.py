"""What a reader can drag: see `explorer` and `filmstrip`; and what a team decides: `review`."""

from vaelab.widgets.explorer import Explorer, Panel
from vaelab.widgets.export import count_multiply_adds, count_parameters
from vaelab.widgets.filmstrip import Filmstrip, Reel
from vaelab.widgets.review import Review

__all__ = ["Explorer", "Filmstrip", "Panel", "Reel", "Review", "count_multiply_adds", "count_parameters"]
