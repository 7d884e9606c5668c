import pytest
import torch

from pomona.data.stamps import OnWhite

Image = pytest.importorskip("PIL.Image")


def test_a_cut_out_stands_in_the_middle_of_white(tmp_path):
    red = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    red.putpixel((0, 0), (0, 0, 0, 0))
    red.save(tmp_path / "red.png")
    x = OnWhite(size=44, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(tmp_path / "red.png")
    assert x.shape == (3, 44, 44) and x.dtype == torch.float32
    assert torch.equal(x[:, 22, 22], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(x[:, 0, 0], torch.ones(3)) and torch.equal(x[:, 2, 22], torch.ones(3))
    assert torch.equal(x[:, 12, 2], torch.ones(3))  # the hole shows the white behind it
