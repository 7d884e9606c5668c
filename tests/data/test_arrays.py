import numpy as np
import pytest
import torch

from pomona.data import load_data
from pomona.vocabulary import InputError


def rows(loader):
    return torch.cat([x for x, _ in loader]), torch.cat([y for _, y in loader])


def test_npz_is_split_without_loss_or_overlap(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.arange(10.0)[:, None], y=np.arange(10) % 3)
    data = load_data(str(tmp_path / "set.npz"), batch=4)
    (x, y), (held, answers) = rows(data.train), rows(data.test)
    assert sorted(x.flatten().tolist() + held.flatten().tolist()) == list(range(10)) and len(held) == 2
    assert torch.equal(x.flatten().long() % 3, y) and torch.equal(held.flatten().long() % 3, answers)
    assert data.metric == "accuracy" and data.classes == ("0", "1", "2") and x.dtype == torch.float32


def test_every_iteration_gives_the_same_batches_and_another_seed_others(tmp_path):
    torch.save({"x": torch.randn(20, 2), "y": torch.arange(20)}, tmp_path / "set.pt")
    data, other = (load_data(str(tmp_path / "set.pt"), seed=seed) for seed in (0, 1))
    assert torch.equal(rows(data.train)[1], rows(data.train)[1])
    assert not torch.equal(rows(data.train)[1], rows(other.train)[1])


def test_given_halves_are_kept_and_float_labels_are_regression(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.ones((4, 2)), y=np.ones(4), x_test=np.zeros((3, 2)), y_test=np.zeros(3))
    data = load_data(str(tmp_path / "set.npz"))
    assert data.metric == "mse" and rows(data.test)[0].shape == (3, 2) and len(rows(data.train)[0]) == 4


def test_without_labels_the_measure_is_agreement(tmp_path):
    torch.save({"x": torch.randn(10, 2)}, tmp_path / "set.pt")
    data = load_data(str(tmp_path / "set.pt"))
    assert data.metric == "agreement" and next(iter(data.test)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": np.ones(3)}, "no array named x"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "empty"),
        ({"x": np.array([[1.0], [np.nan]]), "y": np.ones(2)}, "NaN or infinite, the first at \\(1, 0\\)"),
        ({"x": np.ones((2, 1)), "y": np.array([1.0, np.inf])}, "labels of .* NaN or infinite"),
        ({"x": np.ones((3, 2)), "y": np.ones(2)}, "3 inputs and 2 labels"),
        ({"x": np.ones((3, 2)), "y": np.ones(3), "x_test": np.ones((3, 2))}, "one half only"),
        ({"x": np.array(["a", "b"])}, "other than arrays of numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=says):
        load_data(str(tmp_path / "set.npz"))


@pytest.mark.parametrize("name", ["set.npz", "set.pt"])
def test_a_truncated_file_is_refused(tmp_path, name):
    path = tmp_path / name
    np.savez(path, x=np.ones(100)) if name.endswith("npz") else torch.save({"x": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match="cannot be read"):
        load_data(str(path))


@pytest.mark.parametrize("name", ["set.npz", "set.pt"])
def test_objects_are_not_unpickled(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / name
    np.savez(path, x=np.array([Trap()], dtype=object)) if name.endswith("npz") else torch.save({"x": Trap()}, path)
    (tmp_path / "sprung").unlink(missing_ok=True)
    with pytest.raises(InputError):
        load_data(str(path))
    assert not (tmp_path / "sprung").exists()
