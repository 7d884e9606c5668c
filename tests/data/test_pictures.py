import pytest
import torch
from PIL import Image

from pomona.data import load_data
from pomona.data.pictures import Pixels
from pomona.vocabulary import InputError

PLAIN = {"size": 4, "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop": 1.0, "channels": 3}


def paint(folder, colours, count=5):
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (9, 6), colour).save(folder / name / f"{number}.png")


def labels(loader):
    return torch.cat([y for _, y in loader])


def test_class_folders_become_labels_in_the_order_of_their_names(tmp_path):
    paint(tmp_path, {"white": (255, 255, 255), "black": (0, 0, 0)})
    data = load_data(str(tmp_path), pixels=PLAIN)
    assert data.classes == ("black", "white") and len(labels(data.test)) == 2 and len(labels(data.train)) == 8
    for x, y in data.train:
        assert x.shape[1:] == (3, 4, 4) and torch.equal(x.mean((1, 2, 3)), y * 2.0 - 1.0)


def test_numbered_folders_are_class_numbers(tmp_path):
    paint(tmp_path, {"243": (0, 0, 0), "7": (9, 9, 9)})
    assert set(labels(load_data(str(tmp_path), pixels=PLAIN).train).tolist()) == {7, 243}


def test_given_halves_are_kept(tmp_path):
    paint(tmp_path / "train", {"a": (0, 0, 0), "b": (9, 9, 9)})
    paint(tmp_path / "val", {"b": (0, 0, 0)}, count=3)
    data = load_data(str(tmp_path), pixels=PLAIN)
    assert labels(data.test).tolist() == [1, 1, 1] and len(labels(data.train)) == 10


def test_without_the_models_wishes_a_note_says_what_was_assumed(tmp_path):
    paint(tmp_path, {"a": (0, 0, 0)})
    assert "224" in load_data(str(tmp_path)).notes[0]


def test_the_middle_is_cropped_and_every_channel_normalised(tmp_path):
    image = Image.new("RGB", (8, 4), (255, 0, 0))
    image.paste((0, 0, 255), (2, 0, 6, 4))
    image.save(tmp_path / "x.png")
    x = Pixels(size=4, mean=(0.0, 0.0, 0.5), std=(1.0, 1.0, 0.25), crop=1.0)(tmp_path / "x.png")
    assert torch.equal(x[:, 1, 1], torch.tensor([0.0, 0.0, 2.0])) and bool((x == x[:, :1, :1]).all())


def test_an_empty_folder_a_strange_class_and_a_broken_picture_are_refused(tmp_path):
    with pytest.raises(InputError, match="no class folders"):
        load_data(str(tmp_path))
    paint(tmp_path / "train", {"a": (0, 0, 0)})
    paint(tmp_path / "test", {"b": (0, 0, 0)})
    with pytest.raises(InputError, match="class that the training pictures do not have"):
        load_data(str(tmp_path))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable picture"):
        Pixels()(tmp_path / "bad.png")
