"""Latency as a sum over ops, on a table of made-up times."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from pomona.graph import trace
from pomona.runtime.forecast import Forecast
from pomona.runtime.times import Times


@dataclass(eq=False)
class Paper(Times):
    """An op takes as many seconds as it has input bytes, and is asked for once."""

    asked: list = field(default_factory=list)

    def seconds(self, made):
        self.asked.append(made.name)
        return float(made.bytes)

    def save(self):
        pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.depth = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.b = nn.Conv2d(64, 64, 1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.depth(self.norm(self.a(x)).relu())
        return self.fc(self.b(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def steps_of_sixteen(monkeypatch):
    monkeypatch.setattr("pomona.runtime.forecast.step", lambda: 16)


@pytest.fixture(scope="module")
def graph():
    return trace(Net().eval(), torch.randn(2, 3, 8, 8))


def forecast(graph, tmp_path):
    return Forecast(graph, Paper(1, tmp_path / "none"))


def sizes(**counts):
    return {f"{name}.weight:0": count for name, count in counts.items()}


def bytes_of(a, b):
    picture = 2 * 64  # positions
    floats = [
        picture * 3 + 27 * a + a,
        picture * a + 4 * a,
        picture * a,
        picture * a + 9 * a + a,
        picture * a + a * b + b,
        picture * b,
        2 * b + 10 * b + 10,
    ]
    return 4 * sum(floats)


@pytest.mark.parametrize(("a", "b"), [(64, 64), (32, 64), (64, 16), (48, 32), (9, 5), (31, 47)])
def test_the_sum_over_ops_is_what_a_hand_counts(graph, tmp_path, a, b):
    assert forecast(graph, tmp_path).at(sizes(a=a, b=b)) == pytest.approx(1e3 * bytes_of(a, b))


def test_groups_of_a_depthwise_convolution_follow_its_channels(graph, tmp_path):
    told = forecast(graph, tmp_path)
    told.at(sizes(a=32))
    depth = [name for name in told.times.asked if "float32[32,1,3,3]" in name]
    assert depth and all(name.endswith(",32)") for name in depth)


def test_along_an_axis_tells_what_asking_one_by_one_does(graph, tmp_path):
    told, counts = forecast(graph, tmp_path), [1, 7, 16, 20, 48, 63, 64]
    one_by_one = [forecast(graph, tmp_path).at(sizes(a=n, b=32)) for n in counts]
    assert told.along(sizes(a=48, b=32), "a.weight:0", counts) == pytest.approx(one_by_one)


def test_a_candidate_asked_for_again_costs_nothing(graph, tmp_path):
    told = forecast(graph, tmp_path)
    told.at(sizes(a=40))
    before = len(told.times.asked)
    told.at(sizes(a=40))
    assert len(told.times.asked) == before


def test_calibrated_the_dense_model_takes_what_was_measured(graph, tmp_path):
    told = forecast(graph, tmp_path)
    dense = told.at({})
    for measured in (0.5 * dense, dense + 1e-4, 3 * dense):
        assert told.calibrated(measured).at({}) == pytest.approx(measured)
    little = told.calibrated(dense + 1e3 * 7 * 10e-6)  # 10 microseconds an op: that is Python's
    assert little.scale == pytest.approx(1) and little.between == pytest.approx(10e-6)


def test_what_a_module_takes_is_its_ops(graph, tmp_path):
    told = forecast(graph, tmp_path)
    whole, (fc,) = told.at({}), told.of_blocks({}, ["fc"])
    assert fc == pytest.approx(4e3 * (128 + 650))
    assert told.at({}, without=["fc"]) == pytest.approx(whole - fc)
