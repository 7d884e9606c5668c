"""Dense models in other engines, and threads on chosen processors."""

import os
import threading

import pytest
import torch
from torch import nn

from pomona.runtime.engines import engines_here, ready
from pomona.runtime.engines.in_torch import frozen
from pomona.runtime.machine import processors
from pomona.runtime.pinning import pinned
from pomona.vocabulary import InputError


class Unruly(nn.Module):
    def forward(self, x):
        return x * (2 if float(x.sum()) > 0 else 3)


def test_onnxruntime_gives_what_the_model_gives():
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(3, 8)
    call = ready("onnxruntime", model, (x,), {})
    assert "onnxruntime" in engines_here() and "eager" in engines_here()
    call()
    given = call.__closure__[0].cell_contents.copy_outputs_to_cpu()[0]
    torch.testing.assert_close(torch.from_numpy(given), model(x).detach())


def test_compiled_models_hold_their_weights_as_constants_which_is_what_makes_them_fast():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval(), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        made, before = frozen(model, (x,), {}), model(x)
        torch.testing.assert_close(made(x), before)
        model[0].weight.data.zero_()  # unseen: it was folded with the norm
        torch.testing.assert_close(made(x), before)
        assert not torch.allclose(model(x), before)


def test_an_unknown_engine_and_a_model_that_does_not_fit_are_refused():
    with pytest.raises(InputError, match="no engine 'steam'"):
        ready("steam", nn.Linear(2, 2), (torch.ones(1, 2),), {})
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="Unruly"):
        ready("onnxruntime", Unruly(), (torch.ones(1, 2),), {})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin")
def test_all_threads_are_pinned_and_put_back():
    before, stop, seen = processors(), threading.Event(), []
    old = threading.Thread(target=lambda: (stop.wait(), seen.append(os.sched_getaffinity(0))))
    old.start()
    with pinned(1) as where:
        assert where == before[-1:] and processors() == where
        assert os.sched_getaffinity(old.native_id) == set(where)
        young = threading.Thread(target=lambda: (stop.wait(), seen.append(os.sched_getaffinity(0))))
        young.start()
    stop.set()
    old.join(), young.join()
    assert processors() == before and seen == [set(before)] * 2
    with pinned(10_000) as where:
        assert where == before
