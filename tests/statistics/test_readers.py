import torch
from torch import nn
from torch.testing import assert_close

import zoo
from pomona import trace
from pomona.collect import collect
from pomona.statistics.activations import ActivationMean, ZeroShare
from pomona.statistics.readers import readers
from pomona.structures.axes import Axes
from pomona.vocabulary import InputError, Member, Site


def axis(tensor, dim=1, index=None, units=4):
    return Site("a", "axis", (units,), (Member(tensor, "in", dim, index),))


def means(model, x, site):
    return collect(model, [site], [ActivationMean()], [x])["a"][ActivationMean()]


def test_channels_of_maps_are_averaged_over_pixels():
    x = torch.randn(2, 4, 5, 5)
    assert_close(means(nn.Sequential(nn.Conv2d(4, 2, 3)), x, axis("0.weight")), x.double().abs().mean((0, 2, 3)))


def test_features_of_tokens_are_averaged_over_tokens():
    x = torch.randn(2, 7, 4)
    assert_close(means(nn.Sequential(nn.Linear(4, 2)), x, axis("0.weight")), x.double().abs().mean((0, 1)))


def test_a_flattened_map_gives_each_channel_its_pixels():
    x = torch.randn(2, 4, 3, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    assert_close(means(model, x, axis("1.weight", index=torch.arange(36).reshape(4, 9))), x.double().abs().mean((0, 2, 3)))


def test_a_place_inside_the_groups_of_a_convolution_is_read_in_every_group():
    x = torch.randn(2, 8, 5, 5)
    expected = x.reshape(2, 2, 4, 5, 5).double().abs().mean((0, 1, 3, 4))
    assert_close(means(nn.Sequential(nn.Conv2d(8, 6, 3, groups=2)), x, axis("0.weight")), expected)


def test_windows_along_the_batch_belong_to_their_example():
    from pomona.statistics.readers import by_unit
    from pomona.vocabulary import Seen

    x = torch.randn(6, 5, 4)  # two examples of three windows
    seen = Seen(2, inputs={"w": x}, weights={"w": torch.zeros(3, 4)})
    (z,) = by_unit(axis("w"), seen, seen.inputs)
    assert z.shape == (2, 4, 15)
    assert_close(z[1], x[3:].reshape(15, 4).T)


def test_apoz_of_two_zeros_in_four_is_a_half():
    x = torch.tensor([[-1.0, 1.0], [2.0, 1.0], [-3.0, 1.0], [4.0, -1.0]])
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 3))
    found = collect(model, [axis("1.weight", units=2)], [ZeroShare()], [x])["a"][ZeroShare()]
    assert_close(found, torch.tensor([0.5, 0.25], dtype=torch.float64))


def test_what_a_recurrent_module_hands_on_inside_is_not_mistaken_for_its_input():
    model, args = zoo.lstm()
    sites = {site.name: site for site in Axes.read("axes").sites(trace(model, args))}
    seen = []
    handle = model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = {name: collect(model, [site], [ActivationMean()], [args])[name] for name, site in sites.items() if readable(site)}
    handle.remove()
    assert set(found) == {
        "embed.weight:1",
        *(name for name, s in sites.items() if any(m.tensor == "head.weight" for m in s.members)),
    }
    last = next(site for site in sites.values() if any(m.tensor == "head.weight" for m in site.members))
    index = next(m.index for m in last.members if m.tensor == "head.weight")
    assert_close(found[last.name][ActivationMean()], seen[-1].double().abs()[:, index].mean((0, 2)))


def readable(site):
    try:
        return bool(readers(site))
    except InputError:
        return False
