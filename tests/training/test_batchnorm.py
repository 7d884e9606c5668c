import torch
from torch import nn
from torch.testing import assert_close

from pomona.training.batchnorm import recalibrate
from pomona.training.checkpoint import values


def test_statistics_become_the_plain_average_over_batches():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5)).eval()
    batches = [torch.randn(8, 3, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    assert recalibrate(model, batches) == 1
    hidden = [model[0](x).detach() for x in batches]
    assert_close(model[1].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    assert_close(model[1].running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
    assert model[1].momentum == 0.3 and not model[1].training and not model[2].training


def test_without_batch_norm_nothing_happens_and_no_data_are_read():
    model = nn.Linear(3, 4)
    before = values(model)
    assert recalibrate(model, iter(lambda: 1 / 0, None)) == 0
    assert all(torch.equal(v, before[n]) for n, v in values(model).items())
