import pytest
import torch
from torch import nn
from torch.testing import assert_close

import language
from pomona.training.adapters import Masked, Scaled, Target, adapted, targets

MASK = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) > 0.5


def masked(shape, alive):
    return Masked(shape, alive, 2, 4.0, torch.Generator().manual_seed(3))


def scaled(shape, alive):
    return Scaled(shape, alive, 2, torch.Generator().manual_seed(3))


MAKERS = pytest.mark.parametrize("make", [masked, scaled])


def nothing(model):
    pass


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    model[0].weight.data.masked_fill_(~MASK, 0)
    return model


def stir(model, size=0.5):
    """Another value for every number of an adapter, as training would give."""
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.rpartition(".")[2] in ("A", "B"):
                p.add_(size * torch.randn(p.shape, generator=random))


def test_the_formulas_by_hand():
    W, alive = torch.tensor([[2.0, 0.0], [3.0, 5.0]]), torch.tensor([[True, False], [True, True]])
    A, B = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])
    random = torch.Generator()
    for adapter, wanted in (
        (Masked((2, 2), alive, 1, 0.5, random), [[2 + 1.5, 0], [3 + 2.0, 5 + 4.0]]),
        (Scaled((2, 2), alive, 1, random), [[6, 0], [12, 40]]),
    ):
        adapter.A.data, adapter.B.data = A, B
        assert_close(adapter(W), torch.tensor(wanted, dtype=torch.float32))


@MAKERS
@pytest.mark.parametrize("shape", [(6, 4), (3, 6, 4)])
def test_nothing_changes_at_first_to_the_bit(make, shape):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(5)) * MASK
    assert torch.equal(make(shape, (W != 0))(W), W)


@MAKERS
def test_every_product_has_a_gradient_of_its_own(make):
    """Scales that all start alike stay alike, and the rank of their product stays one."""
    W = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    adapter = make((6, 4), torch.ones(6, 4, dtype=torch.bool))
    wanted = torch.randn(6, 4, generator=torch.Generator().manual_seed(6))
    optimizer = torch.optim.Adam(adapter.parameters(), 0.05)
    for _ in range(50):
        optimizer.zero_grad()
        (adapter(W) - wanted).square().sum().backward()
        optimizer.step()
    assert torch.linalg.matrix_rank(adapter.B @ adapter.A, rtol=1e-2) == 2


@MAKERS
def test_merged_is_what_the_adapter_gave_and_no_trace_is_left(make):
    model, x = net(), torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    before, kind = model(x), type(model[0])
    names = list(model.state_dict())
    with adapted(model, targets(model, nothing), make):
        stir(model)
        through = model(x)
    assert torch.equal(model(x), through) and not torch.allclose(through, before)
    assert torch.equal(model[0].weight != 0, MASK)
    assert list(model.state_dict()) == names and type(model[0]) is kind


@MAKERS
def test_a_failure_within_leaves_a_whole_model(make):
    model = net()
    with pytest.raises(KeyboardInterrupt), adapted(model, targets(model, nothing), make):
        stir(model)
        raise KeyboardInterrupt
    assert list(model.state_dict()) == list(net().state_dict()) and torch.equal(model[0].weight != 0, MASK)


def test_pruned_matrices_get_adapters_and_where_none_was_pruned_all_but_embeddings():
    model, _ = language.model("llama")
    everything = targets(model, nothing)
    assert len(everything) == 3 * 7 + 1  # attention and feed-forward of three blocks, and a head of its own
    model.model.layers[1].mlp.up_proj.weight.data[::2] = 0
    assert [t.places for t in targets(model, nothing)] == [((model.model.layers[1].mlp.up_proj, "weight"),)]
    weight = model.model.layers[1].mlp.up_proj.weight
    assert all(t.weight is not weight for t in targets(model, nothing, skip=[weight]))


@MAKERS
def test_tied_weights_share_one_adapter(make):
    torch.manual_seed(0)
    embedding, output = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    output.weight = embedding.weight
    model = nn.Sequential(embedding, output)
    assert targets(model, nothing) == []
    embedding.weight.data[:, 1] = 0
    chosen = targets(model, nothing)
    with adapted(model, chosen, make):
        stir(model)
        through = model(torch.arange(9))
    assert len(chosen) == 1 and torch.equal(model(torch.arange(9)), through)
    assert model[1].weight is model[0].weight and not model[0].weight[:, 1].any()


@MAKERS
def test_convolutions_are_matrices_of_filters_and_experts_stacks_of_matrices(make):
    convolution = nn.Conv2d(3, 6, 2)
    convolution.weight.data[:, :, 0] = 0
    (target,) = targets(convolution, nothing)
    assert target.shape == (6, 12)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(8))
    with adapted(convolution, [target], make):
        stir(convolution)
        through = convolution(x)
    assert torch.equal(convolution(x), through) and not convolution.weight[:, :, 0].any()

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(9)) * MASK)

    experts = Experts()
    (target,) = targets(experts, nothing)
    assert target.shape == (3, 6, 4)
    with adapted(experts, [target], make):
        stir(experts)
        assert experts.parametrizations.up[0].B.shape == (3, 6, 2)
    assert torch.equal(experts.up != 0, MASK.expand(3, 6, 4))


def test_recurrent_layers_read_past_parametrizations_and_are_left_out():
    model = nn.GRU(4, 6)
    model.weight_ih_l0.data[0] = 0
    assert targets(model, nothing) == []


@MAKERS
def test_half_precision_weights_learn_in_single_precision(make):
    W = torch.randn(6, 4, generator=torch.Generator().manual_seed(5)).bfloat16()
    adapter = make((6, 4), torch.ones(6, 4, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        through = adapter(W)
    assert adapter.A.dtype == torch.float32 and through.dtype == torch.bfloat16 and torch.equal(through, adapter(W))


def test_a_target_knows_its_matrix():
    linear = nn.Linear(4, 6)
    assert Target(linear.weight, ((linear, "weight"),), MASK).shape == (6, 4)
