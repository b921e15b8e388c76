"""Files of tensors: whole or not at all, and never a traceback from the depths."""

import json

import pytest
import torch

from vaelab import storage
from vaelab.storage import StorageError


def test_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(1.5, dtype=torch.float64)}
    shared = torch.randn(6)
    tensors |= {"view": shared[:3], "same": shared, "turned": torch.randn(2, 3).T}
    record = {"text": "ö", "list": [1, 2.5, None], "deep": {"x": True}}
    storage.write(tmp_path / "new" / "file", tensors, record)
    back, record_back = storage.read(tmp_path / "new" / "file")
    assert record_back == record and back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) and back[name].dtype == tensors[name].dtype for name in tensors)


def test_no_pickle_inside(tmp_path):
    path = storage.write(tmp_path / "file", {"a": torch.zeros(2)}, {"b": 1})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert header["a"]["dtype"] == "F32" and json.loads(header["__metadata__"]["vaelab"]) == {"b": 1}


@pytest.mark.parametrize("broken", ["pathlib.Path.write_bytes", "os.replace"])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch, broken):
    path = storage.write(tmp_path / "file", {"a": torch.zeros(2)}, {"version": 1})
    before = path.read_bytes()

    def fail_half_way(*arguments, **_):
        with open(arguments[0], "wb") as file:
            file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(broken, fail_half_way)
    with pytest.raises(StorageError, match=f"{path} cannot be written .*no space left.*check the folder"):
        storage.write(path, {"a": torch.ones(2)}, {"version": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]  # nothing left lying about


def test_what_is_not_ours_is_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    whole = storage.write(tmp_path / "whole", {"a": torch.zeros(1000)}, {})
    files = {
        "cut": whole.read_bytes()[:200],
        "empty": b"",
        "text": b"not a safetensors file, by far" * 10,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    save_file({"a": torch.zeros(2)}, str(tmp_path / "foreign"))
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle")
    for name in (*files, "foreign", "pickle"):
        with pytest.raises(StorageError, match=f"{tmp_path / name} is not a file that vaelab wrote, or it is damaged"):
            storage.read(tmp_path / name)
    with pytest.raises(StorageError, match=f"There is no file {tmp_path / 'missing'}"):
        storage.read(tmp_path / "missing")


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write(tmp_path / "file" / "inside", {"a": torch.zeros(1)}, {})


def test_half_leaves_integers_alone():
    halved = storage.to_half({"a": torch.zeros(2), "n": torch.arange(2)})
    assert halved["a"].dtype == torch.float16 and halved["n"].dtype == torch.int64
