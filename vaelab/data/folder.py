"""Your own pictures: a folder of creatives, and if you have it a CSV `file,label[,group]`."""

import csv
import hashlib
import io
import os
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PICTURES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".tif", ".tiff", ".bmp"}
PICTURES |= {".psd", ".avif", ".jp2"}
# Files that are creatives but no raster pictures: said, not passed over in silence.
FOREIGN = {".heic", ".heif", ".svg", ".pdf", ".ai", ".eps", ".indd", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
FOREIGN |= {".mp4", ".mov"}


class Problem(NamedTuple):
    """A file that is not in the data set, and one sentence that says why."""

    file: str
    sentence: str


@dataclass
class FolderDataset:
    """Pictures of a folder, all fit to one square.

    images: (N, 3, size, size) float32 in [0, 1].   files: N paths below the folder, with forward slashes.
    labels: (N,) int64, indices into `classes`, or None.   groups: N names, or None. Pictures of one group
    (one shoot, one campaign) belong on the same side of a split; without a group a file is its own.
    problems: what was left out and why.   notes: what was changed, one sentence a kind.
    """

    images: Tensor
    files: list[str]
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    groups: list[str] | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)


class Row(NamedTuple):
    """One line of the labels CSV."""

    line: int
    file: str
    label: str
    group: str


def read_picture(file: str | PathLike):
    """The picture in `file` as a PIL image, upright, 8-bit RGB; see `vaelab.data.pictures.read_picture`."""
    from .pictures import read_picture

    return read_picture(file)


def load(
    path: str | PathLike,
    size: int = 64,
    labels: str | PathLike | None = None,
    classes: tuple[str, ...] | None = None,
    fit: str = "crop",
) -> FolderDataset:
    """The pictures in `path` and its sub-folders (hidden ones skipped), in the order of their names.

    size: pixels a side.   fit: "crop" takes the centre square, "pad" shows everything on white.
    labels: a CSV with the columns file,label or file,label,group (comma, semicolon or tab; UTF-8); then
    only labelled pictures are loaded.   classes: the labels allowed, in the order wanted (default: all found).
    A file that cannot be used is listed in `problems`; changes are told once a kind, as a warning.
    Only one full-size picture is in memory at a time.
    Raises: FileNotFoundError, NotADirectoryError; ValueError where nothing useful is left.
    """
    _check_options(size, fit)
    folder = Path(path)
    found, problems = list_pictures(folder)
    rows, notes = None, []
    if labels is not None:
        rows = _match(read_labels(labels), found, Path(labels).name, classes, problems)
        notes += _unlabelled(found, rows, Path(labels).name)
        found = [name for name in found if name in rows]
    images, files, changes = _read_all(folder, found, size, fit, problems)
    if not files:
        raise ValueError(_nothing_usable(folder, problems))
    data = FolderDataset(images, files, problems=problems, notes=notes + changes)
    if rows is not None:
        _attach_labels(data, [rows[name] for name in files], classes, Path(labels).name)
    for sentence in data.notes + _summary(problems):
        warnings.warn(sentence, stacklevel=2)
    return data


def _check_options(size: int, fit: str) -> None:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size is {size!r}: give a whole number of pixels, such as 64.")
    if fit not in ("crop", "pad"):
        raise ValueError(f"fit is {fit!r}: give 'crop' or 'pad'.")


# --- the files ---------------------------------------------------------------------------------------------


def list_pictures(folder: Path) -> tuple[list[str], list[Problem]]:
    if not folder.exists():
        raise FileNotFoundError(f"The folder {folder} does not exist: check the path.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the folder that holds the pictures.")
    names, problems = [], []
    for name in sorted(walk(folder, problems)):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in PICTURES:
            names.append(name)
        elif suffix in FOREIGN:
            problems.append(Problem(name, f"{name} is {suffix[1:].upper()}: export it as PNG or JPEG."))
    if not names and not problems:
        raise ValueError(f"The folder {folder} holds no pictures: put PNG or JPEG files there.")
    return names, problems


def walk(folder: Path, problems: list[Problem]):
    """Paths of all files below `folder`, relative and with forward slashes; hidden ones left out."""

    def closed(error: OSError):
        name = Path(error.filename).relative_to(folder).as_posix()
        name = str(folder) if name == "." else name
        problems.append(Problem(name, f"{name} cannot be opened ({error.strerror}): check who may read this folder."))

    for here, folders, files in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if not name.startswith("."):
                yield (Path(here) / name).relative_to(folder).as_posix()


def _read_all(folder: Path, names: list[str], size: int, fit: str, problems: list[Problem]):
    """Every readable picture as (N, 3, size, size), the names of those, and notes on what was changed."""
    from .pictures import PictureError, read_picture, square

    pixels, files, changed = [], [], {}
    for name in names:
        notes = set()
        try:
            picture = read_picture(folder / name, draft=2 * size, notes=notes)
        except PictureError as error:
            problems.append(Problem(name, f"{name} {error.reason}"))
            continue
        if min(picture.size) < size:
            notes.add(f"Smaller than {size} x {size} and therefore enlarged")
        for note in notes:
            changed.setdefault(note, []).append(name)
        pixels.append(np.array(square(picture, size, fit)))
        files.append(name)
    notes = [_note(names, what) for what, names in sorted(changed.items())]
    return _to_tensor(pixels), files, notes + _twins(pixels, files)


def _to_tensor(pixels: list[np.ndarray]) -> Tensor:
    if not pixels:
        return torch.empty(0)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(255).contiguous()


def _note(names: list[str], what: str) -> str:
    return f"{what}: {len(names)} picture{'' if len(names) == 1 else 's'} (first: {names[0]})."


def _twins(pixels: list[np.ndarray], files: list[str]) -> list[str]:
    """A note if pictures are the same to the last pixel: they would leak across a split."""
    first, twins = {}, []
    for picture, name in zip(pixels, files, strict=True):
        original = first.setdefault(hashlib.sha256(picture).digest(), name)
        if original != name:
            twins.append(f"{name} and {original}")
    return [_note(twins, "The same as another, so give both the same group")] if twins else []


def _summary(problems: list[Problem]) -> list[str]:
    if not problems:
        return []
    return [f"Left out, see .problems: {_first(problems)}"]


def _first(problems: list[Problem]) -> str:
    return f"{len(problems)} file{'' if len(problems) == 1 else 's'}, the first because {problems[0].sentence}"


def _nothing_usable(folder: Path, problems: list[Problem]) -> str:
    return f"Nothing in the folder {folder} can be used: left out {_first(problems)}"


# --- the labels --------------------------------------------------------------------------------------------


def read_labels(file: str | PathLike) -> list[Row]:
    """The lines of a CSV `file,label[,group]`; separator comma, semicolon or tab, UTF-8 with or without BOM.

    Raises: FileNotFoundError; ValueError if it is not UTF-8, lacks a column or holds no line.
    """
    name, text = Path(file).name, _read_text(Path(file))
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count), skipinitialspace=True)
    try:
        reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or []]
        if not {"file", "label"} <= set(reader.fieldnames):
            raise ValueError(f"{name} starts with {header[:60]!r}: its first line must be file,label[,group].")
        rows = [_row(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{name} is no CSV that can be read ({error}): save it again as CSV.") from error
    if not rows:
        raise ValueError(f"{name} holds no line after its first: add one line per picture.")
    return rows


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"The labels file {file} does not exist: check the path.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not UTF-8: save it again as 'CSV UTF-8'.") from error
    except OSError as error:
        raise OSError(f"{file.name} cannot be read ({error.strerror}): change its permissions.") from error


def _row(line: int, cells: dict) -> Row:
    """One line; a name with an unquoted comma shifts its cells, and is caught as a file that is missing."""
    file, label, group = ((cells.get(column) or "").strip() for column in ("file", "label", "group"))
    return Row(line, file.replace("\\", "/"), label, group)


def _match(
    rows: list[Row], found: list[str], csv_name: str, classes: tuple[str, ...] | None, problems: list[Problem]
) -> dict[str, Row]:
    """The rows that can be used, by the name of the file they mean; the others become problems."""
    find, told = _Finder(found), {problem.file for problem in problems}
    matched, contradicted = {}, set()
    for row in rows:
        name = find(row.file)
        if row.file in told:
            continue
        fault = _fault(row, name, matched.get(name), classes)
        if fault:
            problems.append(Problem(row.file, f"{row.file} ({csv_name}, line {row.line}) {fault}".lstrip()))
        else:
            matched[name] = row
        if name in matched and row.label and not _same(row.label, matched[name].label):
            contradicted.add(name)
    return {name: row for name, row in matched.items() if name not in contradicted}


def _fault(row: Row, name: str | None, previous: Row | None, classes: tuple[str, ...] | None) -> str | None:
    """What is wrong with a line, as the end of a sentence, or None."""
    if not row.file:
        return "names no file: fill it in or delete the line."
    if name is None:
        return "is not among the pictures of the folder: check the spelling."
    if not row.label:
        return "has no label: fill it in."
    if classes and not any(_same(row.label, known) for known in classes):
        return f"has the unknown label {row.label!r}: use {' or '.join(classes)}."
    if previous and not _same(row.label, previous.label):
        return f"is labelled {row.label!r}, but {previous.label!r} in line {previous.line}: keep one."
    if previous:
        return f"is listed twice: the first, line {previous.line}, was kept."
    return None


def _same(label: str, other: str) -> bool:
    return label.casefold() == other.casefold()


class _Finder:
    """Finds the file a CSV means: by its path, else in any case, else by its bare name, if only one fits."""

    def __init__(self, found: list[str]):
        self.exact = {_plain(name): name for name in found}
        self.loose, self.bare = {}, {}
        for name in found:
            key = _plain(name).casefold()
            self.loose.setdefault(key, []).append(name)
            self.bare.setdefault(key.rsplit("/", 1)[-1], []).append(name)

    def __call__(self, name: str) -> str | None:
        key = _plain(name)
        if key in self.exact:
            return self.exact[key]
        for table in (self.loose, self.bare):
            fits = table.get(key.casefold(), [])
            if len(fits) == 1:
                return fits[0]
        return None


def _plain(name: str) -> str:
    """One spelling for names that look alike: composed accents (macOS writes them apart), no leading ./"""
    return unicodedata.normalize("NFC", name).removeprefix("./")


def _unlabelled(found: list[str], rows: dict[str, Row], csv_name: str) -> list[str]:
    left = [name for name in found if name not in rows]
    return [_note(left, f"Without a usable line in {csv_name} and therefore left out")] if left else []


def _attach_labels(
    data: FolderDataset, rows: list[Row], classes: tuple[str, ...] | None, csv_name: str
) -> None:
    spelling = {}
    for label in [*(classes or ()), *sorted(row.label for row in rows)]:
        spelling.setdefault(label.casefold(), label)
    counts = Counter(row.label.casefold() for row in rows)
    if len(counts) < 2:
        raise ValueError(
            f"{csv_name} gives every usable picture the label {rows[0].label!r}: two different labels are needed."
        )
    order = list(spelling)
    data.classes = tuple(spelling.values())
    data.labels = torch.tensor([order.index(row.label.casefold()) for row in rows])
    rare = sorted(spelling[label] for label, count in counts.items() if count == 1)
    if 0 < len(rare) < len(counts):
        data.notes.append(f"Used only once in {csv_name}, so check the spelling: {', '.join(rare)}.")
    if any(row.group for row in rows):
        data.groups = [row.group or file for row, file in zip(rows, data.files, strict=True)]
