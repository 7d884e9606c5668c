import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pomona.native.buffers import is_padded
from pomona.runtime.formats.bitmask import Bitmask
from pomona.runtime.layers import read_layers, write_layers
from pomona.runtime.sparse.layouts import conv_layout, linear_layouts
from pomona.shards import Shards, write_shard
from pomona.vocabulary import InputError


def fitting(layout, seed=0):
    """A weight that the layout can hold."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(32, 48, generator=draw)
    if layout == "nm":
        return weight * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(12)
    return weight * (torch.rand(2, 48, generator=draw) > 0.5).repeat_interleave(16, 0)


def every_layer():
    """One of each layout and kind of values, and a convolution."""
    found = {
        f"{name}.{kind}": layout.pack(fitting(name), kind) for name, layout in linear_layouts().items() for kind in layout.kinds
    }
    kernel = torch.randn(16, 4, 3, 3) * (torch.rand(2, 4, 3, 3) > 0.5).repeat_interleave(8, 0)
    return {**found, "conv": conv_layout("conv_blocks").pack(kernel, stride=2, padding=(1, 0), groups=2)}


def test_every_layout_comes_back_from_its_file_and_answers_alike(tmp_path):
    layers, path = every_layer(), tmp_path / "layers.safetensors"
    write_layers(path, layers)
    again = read_layers(path)
    assert list(again) == list(layers)
    x, image = torch.randn(2, 48), torch.randn(1, 8, 9, 9)
    for name, packed in layers.items():
        assert type(again[name]) is type(packed) and torch.equal(again[name].dense(), packed.dense())
        given = (packed.conv(image), again[name].conv(image)) if name == "conv" else (packed.linear(x), again[name].linear(x))
        assert torch.equal(*given)


def test_the_file_is_plain_safetensors_and_is_mapped_not_copied(tmp_path):
    from safetensors.torch import load_file

    path = tmp_path / "layers.safetensors"
    write_layers(path, {"a": Bitmask.pack(fitting("bitmask"))})
    assert torch.equal(load_file(path)["a/living"], Bitmask.pack(fitting("bitmask")).living)
    living = read_layers(path)["a"].living
    mapped = Shards.of([path]).mapped("a/living", 64)
    assert is_padded(living) and living.untyped_storage().nbytes() == mapped.untyped_storage().nbytes()


def test_the_size_is_that_of_the_parts(tmp_path):
    packed = Bitmask.pack(torch.randn(512, 512) * (torch.rand(512, 512) > 0.5))
    path = tmp_path / "layers.safetensors"
    assert write_layers(path, {"a": packed}) == packed.nbytes + 64
    assert path.stat().st_size < packed.nbytes + 1024


def rewritten(path, change):
    """The file with its told words changed."""
    shards = Shards.of([path])
    told = dict(shards.told)
    change(told)
    told.pop("format", None)
    write_shard(path, {name: shards.read(name) for name in shards.places}, told)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(pomona_layers="2"), "format 2"),
        (lambda told: told.pop("pomona_layers"), "no packed layers"),
        (lambda told: told.update(layers="["), "makes no sense"),
        (lambda told: told.update(layers="[1]"), "makes no sense"),
        (lambda told: told.update(layers=told["layers"].replace("bitmask", "bitmap")), "no layout 'bitmap'"),
        (lambda told: told.update(layers=told["layers"].replace("f32", "f33")), "damaged"),
        (lambda told: told.update(layers=told["layers"].replace("[32, 48]", "[32, 65]")), "damaged"),
        (lambda told: told.update(layers=told["layers"].replace("[32, 48]", "[-32, 48]")), "shape"),
        (lambda told: told.update(layers=told["layers"].replace("[32, 48]", "[32]")), "makes no sense"),
        (lambda told: told.update(layers=told["layers"].replace('"living"', '"dead"')), "makes no sense"),
    ],
)
def test_what_a_file_says_wrongly_of_its_layers_is_refused(tmp_path, change, message):
    path = tmp_path / "layers.safetensors"
    write_layers(path, {"a": Bitmask.pack(fitting("bitmask"))})
    rewritten(path, change)
    with pytest.raises(InputError, match=message):
        read_layers(path)


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "layers.safetensors"
    write_layers(path, {"a": Bitmask.pack(fitting("bitmask"))})
    whole = path.read_bytes()
    for part in (b"", b"\0" * 7, whole[:20], whole[:-65], b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]"):
        path.write_bytes(part)
        with pytest.raises(InputError, match=r"safetensors|no packed layers"):
            read_layers(path)
    header = json.dumps({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(InputError, match="not a whole number"):
        read_layers(path)


@pytest.mark.parametrize("size", [1 << 40, 1 << 63, 10**30])
def test_sizes_that_no_weight_has_are_refused(tmp_path, size):
    path = tmp_path / "layers.safetensors"
    for packed in every_layer().values():
        write_layers(path, {"a": packed})
        tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
        about = json.loads(Shards.of([path]).told["layers"])
        about["a"]["shape"][1] = size
        save_file(tensors, path, {"pomona_layers": "1", "layers": json.dumps(about)})
        with pytest.raises(InputError, match=r"shape|columns|taps"):
            read_layers(path)
