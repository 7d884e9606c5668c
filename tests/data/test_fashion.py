import gzip

import numpy as np
import pytest
import torch

from pomona.data import cache, fashion, load_data
from pomona.vocabulary import InputError


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for half, count in (("train", 6), ("t10k", 4)):
        write_idx(tmp_path / f"{half}-images-idx3-ubyte.gz", draw.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{half}-labels-idx1-ubyte.gz", np.arange(count))
    return tmp_path


def test_idx_files_become_normalised_pictures(folder):
    data = fashion.from_idx(folder, batch=4, seed=0)
    ((x, y),) = list(data.test)
    raw = fashion.read_idx(folder / "t10k-images-idx3-ubyte.gz")
    assert x.shape == (4, 1, 28, 28) and y.tolist() == [0, 1, 2, 3] and len(data.classes) == 10
    torch.testing.assert_close(x[:, 0] * fashion.STD + fashion.MEAN, raw / 255)


def test_labels_out_of_range_and_truncated_files_are_refused(folder):
    labels = folder / "train-labels-idx1-ubyte.gz"
    write_idx(labels, np.array([0, 1, 2, 3, 4, 10]))
    with pytest.raises(InputError, match="run from 0 to 10"):
        fashion.from_idx(folder, 4, 0)
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1]))
    with pytest.raises(InputError, match="truncated"):
        fashion.read_idx(labels)
    labels.write_bytes(b"not gzip")
    with pytest.raises(InputError, match="cannot be read"):
        fashion.read_idx(labels)


def test_where_debian_is_out_of_reach_digits_stand_in_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    monkeypatch.setattr(cache.shutil, "which", lambda name: None)
    data = load_data("fashion-mnist")
    x, _ = next(iter(data.train))
    assert data.name == "digits" and x.shape[1:] == (1, 28, 28) and "stand in" in data.notes[0]


def test_a_failed_download_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    monkeypatch.setattr(cache.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr(cache, "_run", lambda command, folder: None)
    with pytest.raises(cache.Unreachable, match="left no file"):
        cache.debian_package("dataset-fashion-mnist")
    assert list((tmp_path / "debian").iterdir()) == []


@pytest.mark.slow
def test_the_debian_package_holds_the_whole_set(tmp_path, monkeypatch):
    monkeypatch.setenv("POMONA_CACHE", str(tmp_path))
    data = load_data("fashion-mnist")
    if data.name == "digits":
        pytest.skip(data.notes[0])
    assert sum(len(y) for _, y in data.train) == 60_000 and sum(len(y) for _, y in data.test) == 10_000
