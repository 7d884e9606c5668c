"""Where op times are measured, and how they are read between."""

import pytest

from pomona.runtime.steps import Stairs


@pytest.mark.parametrize("full", [3, 16, 24, 64, 100, 512, 2048])
def test_weights_add_up_and_the_full_width_stands_for_itself(full):
    stairs = Stairs(full, 16)
    assert stairs.around(full) == [(full, 1.0)]
    for width in range(1, full + 1):
        near = stairs.around(width)
        assert sum(weight for _, weight in near) == pytest.approx(1) and all(1 <= w <= full for w, _ in near)


def test_a_staircase_is_read_exactly_between_its_knots():
    stairs = Stairs(2048, 16)
    for width in range(17, 2049):
        read = sum(weight * -(-near // 16) for near, weight in stairs.around(width))
        assert read == pytest.approx(-(-width // 16))


def test_widths_that_fill_their_last_step_are_never_mixed_with_others():
    stairs = Stairs(512, 16)
    for width in range(17, 512):
        assert {near % 16 == 0 for near, _ in stairs.around(width)} == {width % 16 == 0}


def test_wide_ops_are_measured_at_few_widths():
    measured = {near for width in range(1, 2049) for near, _ in Stairs(2048, 16).around(width) if width > 16}
    assert len(measured) <= 13
