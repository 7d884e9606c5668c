import json
import os

import pytest
import torch
from torch import nn

from pomona.models import example_inputs, load_model, rebuild
from pomona.models.source import Source
from pomona.vocabulary import InputError

NETS = """
import torch
from torch import nn

def plain():
    return nn.Linear(4, 2)

def with_example():
    return nn.Linear(4, 2), torch.ones(3, 4)

def wrong():
    return 7

number = 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "user_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_after_rebuild(loaded, args, kwargs):
    source = Source.from_json(json.loads(json.dumps(loaded.source.to_json())))
    again = rebuild(source)
    again.load_state_dict(loaded.model.state_dict())
    with torch.no_grad():
        ours, theirs = loaded.model(*args, **kwargs), again(*args, **kwargs)
    first = lambda output: output if isinstance(output, torch.Tensor) else output[0]  # noqa: E731
    return torch.equal(first(ours), first(theirs))


def test_a_function_in_the_working_directory_gives_a_model(here):
    loaded = load_model("user_nets:plain")
    assert isinstance(loaded.model, nn.Linear) and not loaded.model.training and loaded.example is None
    assert same_after_rebuild(loaded, (torch.ones(1, 4),), {})


def test_a_function_in_a_file_gives_a_model_and_its_example(here):
    loaded = load_model(os.path.join("user_nets.py") + ":with_example")
    args, kwargs = example_inputs(loaded.model, loaded)
    assert args[0].shape == (3, 4) and kwargs == {}
    assert os.path.isabs(loaded.source.value), "the folder must open from another working directory"
    assert same_after_rebuild(loaded, args, kwargs)


def test_untrained_weights_of_a_function_are_the_same_every_time_and_leave_the_random_state_alone(here):
    state = torch.random.get_rng_state()
    first, second = load_model("user_nets:plain"), load_model("user_nets:plain")
    assert torch.equal(first.model.weight, second.model.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_exported_program_gives_its_module_and_its_inputs(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9)).eval()
    x = torch.randn(2, 4)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    loaded = load_model(str(tmp_path / "net.pt2"))
    args, kwargs = example_inputs(loaded.model, loaded)
    assert torch.equal(loaded.model.eval()(*args), net(x)) and torch.equal(args[0], x)
    assert same_after_rebuild(loaded, args, kwargs)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet18", "timm:NAME"),
        ("timm:resnt18", "did you mean 'resnet18'"),
        ("timm:resnet18?nonsense=1", "nonsense"),
        ("timm:resnet18?num_classes=ten", "whole number"),
        ("timm:resnet18?weights=nowhere.safetensors", "no weights file"),
        ("no_such_module:build", "no module 'no_such_module'"),
        ("user_nets:plane", "did you mean 'plain'"),
        ("user_nets:number", "int"),
        ("user_nets:wrong", "must return"),
        ("nowhere.py:build", "no file nowhere.py"),
        ("nowhere.pt2", "no file nowhere.pt2"),
        ("user_nets.py", "holds no architecture"),
        (".", "without config.json"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(here, text, says):
    with pytest.raises(InputError, match=says) as refused:
        load_model(text)
    assert "\n" not in str(refused.value)


def test_a_missing_import_inside_the_users_module_is_told_with_its_line(here):
    (here / "broken_nets.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(InputError, match=r"a_package_that_is_not_there' \(broken_nets.py line 1\)") as refused:
        load_model("broken_nets:build")
    assert isinstance(refused.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not a zip"])
def test_a_truncated_program_is_refused(tmp_path, content):
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(InputError, match="not a readable exported program"):
        load_model(str(tmp_path / "net.pt2"))
