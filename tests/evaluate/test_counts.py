import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pomona.evaluate import count, counts
from pomona.evaluate.counts import distinct
from pomona.evaluate.counts import file_bytes as count_bytes


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("also_empty", torch.empty(0))


class Costs:
    macs = 123


class Traced:
    def costs(self):
        return Costs()


def test_parameters_zeros_and_macs():
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight[0] = 0
        net.bias[:] = 1
    sizes = count(net, Traced())
    assert (sizes.params, sizes.nonzeros, sizes.macs) == (15, 11, 123) and count(net).macs is None


def test_bytes_are_those_of_the_file(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert count(net).bytes == (tmp_path / "net.safetensors").stat().st_size


def test_bytes_are_those_of_the_file_for_every_dtype(tmp_path):
    net = nn.Module()
    for number, dtype in enumerate(counts._DTYPES):
        for letter in "aé":
            net.register_buffer(f"{letter}{'x' * number}", torch.zeros(number + 1, 3).to(dtype))
        save_file(net.state_dict(), tmp_path / "net.safetensors")
        assert count_bytes(net) == (tmp_path / "net.safetensors").stat().st_size


def test_tied_weights_count_once_and_empty_buffers_stay(tmp_path):
    net = Tied()
    assert count(net).params == 40 and 160 < count(net).bytes < 600
    assert sorted(distinct(net.state_dict())) == ["also_empty", "embed.weight", "empty"]
    save_file(distinct(net.state_dict()), tmp_path / "x.safetensors")
    assert torch.equal(load_file(tmp_path / "x.safetensors")["embed.weight"], net.head.weight)
