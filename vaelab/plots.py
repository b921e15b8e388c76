"""The course's pictures: one calm style, and the few figures that chapters draw again and again.

Images are tensors (N, C, H, W) in [0, 1] (anything outside is clamped), C is 1 or 3. Every function returns a
closed `matplotlib` figure (`sharp` a JPEG, `table` HTML): leave it as the last expression of a cell, or `display` it,
and it shows once.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

INK, GREY, PALE = "#2b2d3a", "#8a8d9b", "#e7e8ee"
BLUE, AMBER, GREEN, ROSE, VIOLET = "#3b6fb6", "#d9902f", "#4a9a78", "#c9566b", "#7d63b8"
PALETTE = [BLUE, AMBER, GREEN, ROSE, VIOLET, "#3aa3b8", "#a3743f", "#94a83a", "#d37fb1", "#6a6f86"]
OWN_COLOURS = {"cherry": ROSE, "orange": AMBER, "lime": GREEN, "blueberry": BLUE}

WIDTH = 7.2  # inches: the column of a page
TINY = 32  # pictures below this many pixels keep their hard pixels


def style() -> None:
    """Set the house style for every figure after this: call it in a notebook's first cell."""
    plt.rcParams.update(
        {
            "figure.dpi": 90,  # keeps a page of pictures light
            "savefig.dpi": 90,
            "figure.facecolor": "white",
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 10,
            "axes.edgecolor": GREY,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "grid.color": PALE,
            "grid.linewidth": 0.8,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
        }
    )


def grid(images: torch.Tensor, columns: int = 8, labels: Sequence | None = None, title: str | None = None) -> Figure:
    """Pictures in reading order, `columns` to a row, each with its label below if `labels` (N,) are given."""
    pictures = _pictures(images)
    columns = min(columns, len(pictures))
    return _sheet(pictures, columns, title, below=labels)


def strip(images: torch.Tensor, labels: Sequence | None = None, title: str | None = None) -> Figure:
    """All pictures in one row: a path, a traversal, a series of steps."""
    return grid(images, len(images), labels, title)


def sharp(images: torch.Tensor, columns: int, gap: int = 6, quality: int = 84):
    """Pictures in reading order, pixel for pixel, as one JPEG: what a screen may show larger than a figure would.

    Returns an `IPython.display.Image`.
    """
    from io import BytesIO

    from IPython.display import Image as Shown
    from PIL import Image

    cells = np.stack(_pictures(images))
    n, h, w, channels = cells.shape
    cells = np.pad(cells, ((0, -n % columns), (0, gap), (0, gap), (0, 0)), constant_values=1.0)
    lattice = cells.reshape(-1, columns, h + gap, w + gap, channels).swapaxes(1, 2)
    lattice = lattice.reshape(-1, columns * (w + gap), channels)[:-gap, :-gap]
    file = BytesIO()
    Image.fromarray((np.broadcast_to(lattice, (*lattice.shape[:2], 3)) * 255).round().astype(np.uint8)).save(
        file, "JPEG", quality=quality, subsampling=0
    )
    return Shown(file.getvalue(), format="jpeg")


def table(head: Sequence[str], lines: Sequence[Sequence]):
    """A small table: the heads of its columns, and a list of words or numbers for each of its lines.

    Returns an `IPython.display.HTML`.
    """
    from IPython.display import HTML

    rows = ["".join(f"<th>{word}</th>" for word in head)]
    rows += ["".join(f"<td>{word}</td>" for word in line) for line in lines]
    return HTML('<table class="table">' + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")


def rows(
    groups: Mapping[str, torch.Tensor], labels: Sequence | None = None, title: str | None = None
) -> Figure:
    """One row of pictures a group, its name at the left; all groups hold equally many. `labels` head the columns."""
    counts = {len(images) for images in groups.values()}
    if len(counts) != 1:
        raise ValueError(f"rows: the groups hold {sorted(counts)} pictures; give each the same number.")
    pictures = [picture for images in groups.values() for picture in _pictures(images)]
    return _sheet(pictures, counts.pop(), title, left=list(groups), above=labels)


def latent_map(
    decode: Callable[[torch.Tensor], torch.Tensor], extent: float = 3.0, n: int = 12, title: str | None = None
) -> Figure:
    """Decode an n × n lattice over [-extent, extent]²: what lies at each address of a 2-D latent space.

    `decode` takes codes (N, 2) and gives pictures (N, C, H, W). The second coordinate grows upwards.
    """
    figure, axes = plt.subplots(figsize=(0.7 * WIDTH, 0.7 * WIDTH), layout="constrained")
    axes.imshow(mosaic(decode, extent, n), extent=(-extent, extent) * 2, interpolation="antialiased")
    axes.grid(False)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.set(xlabel="first coordinate of z", ylabel="second coordinate of z", title=title or "")
    return _closed(figure)


def mosaic(
    decode: Callable[[torch.Tensor], torch.Tensor], extent: float, n: int, gap: int = 0
) -> np.ndarray:
    """The n × n lattice over [-extent, extent]², each cell the picture decoded at its centre, in [0, 1].

    (n (H + gap), n (W + gap), 3), with `gap` white pixels between the pictures.
    """
    steps = (torch.arange(n) + 0.5) / n * 2 * extent - extent
    second, first = torch.meshgrid(steps.flip(0), steps, indexing="ij")
    with torch.no_grad():
        images = decode(torch.stack([first, second], -1).reshape(-1, 2))
    cells = np.stack(_pictures(images))
    before, after = gap // 2, gap - gap // 2
    cells = np.pad(cells, ((0, 0), (before, after), (before, after), (0, 0)), constant_values=1.0)
    _, h, w, channels = cells.shape
    picture = cells.reshape(n, n, h, w, channels).swapaxes(1, 2).reshape(n * h, n * w, channels)
    return np.broadcast_to(picture, (n * h, n * w, 3))


def colours(kinds: Sequence) -> list[str]:
    """A colour for each kind of dot: its own where it has one (lime is green), else the palette's next."""
    return [OWN_COLOURS.get(str(kind), PALETTE[i % len(PALETTE)]) for i, kind in enumerate(kinds)]


def codes(
    z: torch.Tensor,
    labels: Sequence | None = None,
    names: Sequence | Mapping | None = None,
    extent: float | None = None,
    title: str | None = None,
) -> Figure:
    """Codes z (N, 2) as dots, coloured by `labels` (N,); `names` turns integer labels into words."""
    points = np.asarray(z.detach() if isinstance(z, torch.Tensor) else z)
    figure, axes = plt.subplots(figsize=(0.86 * WIDTH, 0.7 * WIDTH), layout="constrained")
    kinds = np.asarray(labels if labels is not None else np.zeros(len(points), int))
    size = float(np.clip(6000 / len(points), 5, 36))
    found = np.unique(kinds)
    words = [str(names[kind] if names is not None else kind) for kind in found]
    for kind, word, colour in zip(found, words, colours(words), strict=True):
        chosen = points[kinds == kind]
        axes.scatter(*chosen.T, s=size, color=colour, alpha=0.75, linewidths=0, label=word)
    if labels is not None:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=max(1.0, 7 / size**0.5))
    limits = {"xlim": (-extent, extent), "ylim": (-extent, extent)} if extent else {}
    axes.set(xlabel="first coordinate of z", ylabel="second coordinate of z", title=title or "", **limits)
    axes.set_aspect("equal", adjustable="box" if extent else "datalim")
    return _closed(figure)


def curve(x: Sequence, lines: Mapping[str, Sequence], xlabel: str, ylabel: str, title: str | None = None) -> Figure:
    """One line for each name over `x` (N,); a single line carries no legend."""
    figure, axes = plt.subplots(figsize=(0.86 * WIDTH, 0.45 * WIDTH), layout="constrained")
    for name, y in lines.items():
        axes.plot(np.asarray(x), np.asarray(y), label=name)
    if len(lines) > 1:
        axes.legend()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title or "")
    return _closed(figure)


def _pictures(images: torch.Tensor) -> list[np.ndarray]:
    """(N, C, H, W) -> N arrays (H, W, C) in [0, 1], C 1 or 3."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"plots: images of shape (N, 1 or 3, H, W) are needed, these are {tuple(images.shape)}.")
    return list(images.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).numpy())


def _sheet(pictures: list, columns: int, title: str | None, below=None, above=None, left=None) -> Figure:
    """Pictures in a lattice, with words below each, above the columns, or left of the rows."""
    n_rows = -(-len(pictures) // columns)
    margin = 0.12 + 0.085 * max((len(name) for name in left), default=0) if left else 0.0
    side = min((WIDTH - margin) / columns, 1.5)
    gap = 0.24 if below is not None else 0.0
    shape = (margin + columns * side, n_rows * (side * _aspect(pictures[0]) + gap))
    figure, lattice = plt.subplots(n_rows, columns, figsize=shape, squeeze=False)
    figure.subplots_adjust(left=margin / shape[0], right=1, bottom=0, top=1, wspace=0.06, hspace=0.06 + gap / side)
    for axes in lattice.flat:
        axes.axis("off")
    for axes, picture in zip(lattice.flat, pictures, strict=False):
        _show(axes, picture)
    _words(lattice, below, above, left)
    if title:
        offset = (0.32 if above is not None else 0.1) / shape[1]
        figure.text(0, 1 + offset, title, weight="bold", size=11, ha="left", va="bottom")
    return _closed(figure)


def _aspect(picture: np.ndarray) -> float:
    return picture.shape[0] / picture.shape[1]


def _show(axes, picture: np.ndarray) -> None:
    colour = {"cmap": "gray", "vmin": 0, "vmax": 1} if picture.shape[-1] == 1 else {}
    smooth = "nearest" if max(picture.shape[:2]) < TINY else "antialiased"
    axes.imshow(picture.squeeze(-1) if colour else picture, interpolation=smooth, **colour)


def _words(lattice: np.ndarray, below, above, left) -> None:
    for axes, word in zip(lattice.flat, below if below is not None else [], strict=False):
        _note(axes, (0.5, -0.04), str(word), ha="center", va="top", size=8.5)
    for axes, word in zip(lattice[0], above if above is not None else [], strict=False):
        _note(axes, (0.5, 1.04), str(word), ha="center", va="bottom", size=8.5)
    for axes, word in zip(lattice[:, 0], left or [], strict=False):
        _note(axes, (-0.1, 0.5), str(word), ha="right", va="center", size=9.5)


def _note(axes, place: tuple[float, float], words: str, **looks) -> None:
    axes.text(*place, words, transform=axes.transAxes, color=INK, **looks)


def _closed(figure: Figure) -> Figure:
    """Take the figure from pyplot's hands, or the notebook would show it a second time."""
    plt.close(figure)
    return figure
