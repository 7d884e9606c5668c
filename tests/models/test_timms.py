import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from pomona.models import example_inputs, load_model, rebuild
from pomona.models.torchvision_stub import FrozenBatchNorm2d
from pomona.vocabulary import InputError


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv2_100", "convnext_atto"])
def test_common_families_are_made_and_run(name):
    loaded = load_model(f"timm:{name}?num_classes=7")
    args, kwargs = example_inputs(loaded.model, loaded)
    assert args[0].shape == (1, 3, 224, 224) and "random weights" in loaded.notes[0]
    with torch.no_grad():
        assert loaded.model(*args, **kwargs).shape == (1, 7)


def test_options_reach_the_architecture_the_example_and_the_rebuilt_model():
    loaded = load_model("timm:vit_tiny_patch16_224?img_size=32&in_chans=1&num_classes=3")
    args, _ = example_inputs(loaded.model, loaded)
    assert args[0].shape == (1, 1, 32, 32) and loaded.pixels["size"] == 32 and loaded.pixels["channels"] == 1
    again = rebuild(loaded.source)
    again.load_state_dict(loaded.model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(*args), loaded.model(*args))


def test_weights_come_from_a_file(tmp_path):
    net = load_model("timm:resnet18?num_classes=2").model
    with torch.no_grad():
        net.fc.bias.fill_(3.5)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    loaded = load_model(f"timm:resnet18?num_classes=2&weights={tmp_path / 'net.safetensors'}")
    assert loaded.model.fc.bias.tolist() == [3.5, 3.5] and loaded.notes == ()
    assert "weights" not in loaded.source.kwargs
    with pytest.raises(InputError, match="do not fit"):
        load_model(f"timm:resnet18?num_classes=3&weights={tmp_path / 'net.safetensors'}")


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "net.pt")
    with pytest.raises(InputError, match="more than tensors"):
        load_model(f"timm:resnet18?weights={tmp_path / 'net.pt'}")
    assert not (tmp_path / "sprung").exists()


def test_transformers_still_sees_that_torchvision_is_absent():
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec('torchvision') is not None\n"
        "from pomona.models.torchvision_stub import import_timm\n"
        "import_timm()\n"
        "assert real or not any(n.split('.')[0] == 'torchvision' for n in sys.modules)\n"
        "assert (importlib.util.find_spec('torchvision') is not None) == real\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_frozen_norm_is_batch_norm_in_evaluation_mode():
    frozen, norm = FrozenBatchNorm2d(3), torch.nn.BatchNorm2d(3).eval()
    state = {"weight": torch.rand(3), "bias": torch.rand(3), "running_mean": torch.rand(3), "running_var": torch.rand(3) + 0.5}
    frozen.load_state_dict(state)
    norm.load_state_dict(state, strict=False)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), norm(x))
