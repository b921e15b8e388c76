"""Tensors and their JSON description in one safetensors file, replaced in one step. Nothing is ever unpickled."""

import contextlib
import json
import os
from pathlib import Path

import torch

CHECKPOINTS = Path(__file__).parent / "checkpoints"  # of the models that ship with vaelab


class StorageError(OSError):
    """A file could not be written, or is not what was asked for."""


def write(path, tensors, record):
    """Writes `{name: tensor}` and a JSON-able `record` to `path`, as `replace_file` does."""
    from safetensors.torch import save

    # save refuses tensors that share memory; a clone of each is the simplest honest copy.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return replace_file(path, save(copies, {"format": "pt", "vaelab": json.dumps(record, sort_keys=True)}))


def read(path):
    """Returns `({name: tensor}, record)` of a file made by `write`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise StorageError(f"There is no file {path}; check the name.")
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {})["vaelab"])
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, record
    except (SafetensorError, KeyError, ValueError) as error:
        raise StorageError(
            f"{path} is not a file that vaelab wrote, or it is damaged ({error!r}); make it again or take a copy."
        ) from error


def tensors(path):
    """The tensors of any safetensors file, whoever wrote it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} cannot be read ({error}); check the name, or take a fresh copy.") from error


def replace_file(path, data):
    """Writes bytes to `path` in one step, so that an older file stays whole until the last moment; returns `path`.

    Raises StorageError in one sentence.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        why = error.strerror or error
        raise StorageError(f"{path} cannot be written ({why}): check the folder and the free space.") from error
    return path


def to_half(tensors):
    """The same tensors, floating ones in float16."""
    return {name: t.half() if torch.is_floating_point(t) else t for name, t in tensors.items()}
