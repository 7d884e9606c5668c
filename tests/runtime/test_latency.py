import copy
import json
from dataclasses import asdict
from statistics import median

import pytest
import torch
from torch import nn

from pomona.runtime import machine, measure_latency
from pomona.vocabulary import InputError


def net(width):
    return nn.Sequential(nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 256))


def test_a_sixteenth_of_the_work_is_faster_and_needs_no_excuse():
    found = measure_latency(net(2048), net(128), torch.randn(64, 256), pairs=9, seconds=3.0)
    assert found.faster and found.reason is None and found.advice is None and found.ratio < 0.5
    assert found.batch == 64 and found.pairs == len(found.samples_before_ms) == len(found.samples_after_ms)
    assert found.before_ms == pytest.approx(median(found.samples_before_ms))
    assert found.spread[0] <= found.ratio <= found.spread[1]
    assert json.loads(json.dumps(asdict(found)))["ratio"] == found.ratio


def test_zeros_on_dense_kernels_are_not_called_faster():
    dense = net(1024)
    sparse = copy.deepcopy(dense)
    with torch.no_grad():
        for layer in (sparse[0], sparse[2]):
            layer.weight *= torch.rand_like(layer.weight) > 0.9
    found = measure_latency(dense, sparse, torch.randn(64, 256), pairs=7, seconds=2.0)
    # On a busy machine the timings may scatter instead; either way nobody is told that it is faster.
    assert not found.faster and found.reason and found.advice


def test_twice_the_work_is_never_faster():
    found = measure_latency(net(256), net(2048), torch.randn(64, 256), pairs=5, seconds=2.0)
    assert found.ratio > 1 and not found.faster


def test_models_threads_and_modes_are_left_as_they_were():
    first, second = net(8).train(), net(8).eval()
    threads = torch.get_num_threads()
    found = measure_latency(first, second, {"input": torch.randn(2, 256)}, batch=5, threads=threads + 1, pairs=5, seconds=0.1)
    assert found.batch == 5 and found.threads == threads + 1 and torch.get_num_threads() == threads
    assert first.training and not second.training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("wish", "says"),
    [({"pairs": 0}, "one pair"), ({"seconds": 0.0}, "some time"), ({"batch": 0}, "one example"), ({"threads": 0}, "thread")],
)
def test_impossible_wishes_are_refused(wish, says):
    with pytest.raises(InputError, match=says):
        measure_latency(net(8), net(8), torch.randn(2, 256), **wish)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="Sequential does not run on these inputs at batch 2"):
        measure_latency(net(8), net(8), torch.randn(2, 7))


def test_the_machine_is_described():
    facts = machine()
    assert set(facts) == {"cpu", "cores", "threads", "torch", "python", "platform"}
    assert facts["cores"] >= 1 and facts["torch"] == torch.__version__ and json.dumps(facts)
