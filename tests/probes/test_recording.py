import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from handmade import data, net
from pomona.probes.forward import Forward
from pomona.probes.loss_gradient import LossGradient
from pomona.vocabulary import Batch, InputError, Watch


def test_gradients_equal_those_of_a_plain_backward():
    model, (x, y) = net(), data(8)
    seen = LossGradient().run(model, Batch.of((x, y)), cross_entropy, Watch(grads=frozenset({"conv.weight", "fc.bias"})))
    cross_entropy(model(x), y).backward()
    assert_close(seen.grads, {"conv.weight": model.conv.weight.grad, "fc.bias": model.fc.bias.grad})


def test_two_readers_of_one_tensor_get_their_own_gradients():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x) + self.b(x)

    torch.manual_seed(0)
    model, x, y = Pair(), torch.randn(5, 4), torch.randint(0, 3, (5,))
    seen = LossGradient().run(model, Batch.of((x, y)), cross_entropy, Watch(inputs=frozenset({"a.weight", "b.weight"})))
    leaf = x.clone().requires_grad_()
    cross_entropy(model(leaf), y).backward()
    assert_close(seen.input_grads["a.weight"] + seen.input_grads["b.weight"], leaf.grad)
    assert not torch.allclose(seen.input_grads["a.weight"], seen.input_grads["b.weight"])
    assert torch.equal(seen.inputs["a.weight"], x)


def test_inputs_given_by_keyword_are_seen():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 2)

        def forward(self, x):
            return self.inner(input=x)

    x = torch.randn(3, 4)
    seen = Forward().run(Keyword(), Batch.of(x), None, Watch(inputs=frozenset({"inner.weight"})))
    assert torch.equal(seen.inputs["inner.weight"], x)


def test_calls_of_a_shared_module_are_joined_along_the_batch():
    layer = nn.Linear(4, 4)
    model, x = nn.Sequential(layer, nn.ReLU(), layer), torch.randn(3, 4)
    seen = Forward().run(model, Batch.of(x), None, Watch(inputs=frozenset({"0.weight"})))
    assert torch.equal(seen.inputs["0.weight"], torch.cat([x, torch.relu(layer(x))]))


def test_an_input_that_is_overwritten_after_it_was_read_is_refused():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = x * 1
            z = self.fc(y)
            return z + y.relu_()

    with pytest.raises(InputError, match=r"fc\.weight is overwritten"):
        Forward().run(Overwriting(), Batch.of(torch.randn(2, 4)), None, Watch(inputs=frozenset({"fc.weight"})))


def test_a_block_that_adds_to_its_input_in_place_is_still_seen_right():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.add_(1)

    x = torch.randn(2, 3)
    entered, left = Forward().run(nn.Sequential(InPlace()), Batch.of(x.clone()), None, Watch(blocks=frozenset({"0"}))).blocks["0"]
    assert torch.equal(entered, x)
    assert torch.equal(left, x + 1)


def test_the_models_own_loss_is_used_when_none_is_given():
    class Output(dict):
        pass

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x, labels):
            logits = self.fc(x)
            return Output(loss=cross_entropy(logits, labels), logits=logits)

    torch.manual_seed(0)
    model, batch = Own(), {"x": torch.randn(5, 4), "labels": torch.randint(0, 3, (5,))}
    seen = LossGradient().run(model, Batch.of(batch), None, Watch(grads=frozenset({"fc.weight"})))
    model(**batch)["loss"].backward()
    assert_close(seen.grads["fc.weight"], model.fc.weight.grad)


def test_gradients_are_taken_inside_no_grad_too():
    model, (x, y) = net(), data(4)
    with torch.no_grad():
        assert LossGradient().run(model, Batch.of((x, y)), cross_entropy, Watch(grads=frozenset({"fc.weight"}))).grads


def test_a_loss_that_is_no_number_is_refused():
    x, y = data(4)
    with pytest.raises(InputError, match="one number"):
        LossGradient().run(net(), Batch.of((x, y)), lambda o, t: o, Watch(grads=frozenset({"fc.weight"})))
    with pytest.raises(InputError, match="finite loss"):
        LossGradient().run(net(), Batch.of((x, y)), lambda o, t: o.sum() * torch.nan, Watch(grads=frozenset({"fc.weight"})))
    with pytest.raises(InputError, match="does not depend"):
        LossGradient().run(net(), Batch.of((x, y)), lambda o, t: o.detach().sum(), Watch(grads=frozenset({"fc.weight"})))


def test_an_unknown_name_is_refused():
    x, y = data(4)
    with pytest.raises(InputError, match="no parameter nothing"):
        LossGradient().run(net(), Batch.of((x, y)), cross_entropy, Watch(grads=frozenset({"nothing"})))
    with pytest.raises(InputError, match=r"no module gone"):
        Forward().run(net(), Batch.of(x), None, Watch(inputs=frozenset({"gone.weight"})))
