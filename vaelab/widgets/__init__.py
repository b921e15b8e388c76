"""What a reader can drag: see `explorer`."""

from vaelab.widgets.explorer import Explorer, Panel
from vaelab.widgets.export import count_multiply_adds, count_parameters

__all__ = ["Explorer", "Panel", "count_multiply_adds", "count_parameters"]
