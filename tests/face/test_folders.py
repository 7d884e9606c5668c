"""Where results may be written, asked before any work."""

from pathlib import Path

import pytest

from pomona.face.folders import check_free, check_outside
from pomona.vocabulary import InputError


def test_a_folder_that_nobody_can_make_is_refused_before_the_work():
    with pytest.raises(InputError, match="/proc is not a folder that you may write to"):
        check_free(Path("/proc/made"))
    with pytest.raises(InputError, match="cannot be written"):
        check_free(Path("/proc/made/deeper"))


def test_a_name_that_the_disk_does_not_take_is_refused(tmp_path):
    with pytest.raises(InputError, match="name too long"):
        check_free(tmp_path / ("a" * 250))


def test_asking_leaves_nothing(tmp_path):
    check_free(tmp_path / "a")
    check_free(tmp_path / "b" / "c" / "d")
    assert not list(tmp_path.iterdir())


def test_a_result_does_not_lie_in_the_model_that_is_read(tmp_path):
    (tmp_path / "model").mkdir()
    for inside in (tmp_path / "model" / "out", tmp_path / "other" / ".." / "model" / "out", tmp_path / "model"):
        with pytest.raises(InputError, match="beside it"):
            check_outside(inside, tmp_path / "model")
    check_outside(tmp_path / "model-out", tmp_path / "model")
    check_outside(tmp_path / "out", "timm:resnet18")
