import ctypes
import os
import subprocess
import sys

import pytest
import torch

from pomona.native import library, using
from pomona.native.buffers import array, is_padded, padded, size
from pomona.native.library import threads_of
from pomona.native.team import torch_team
from pomona.vocabulary import InputError

NATIVE = library()


@pytest.mark.skipif(NATIVE.isa is None, reason="no native kernels here")
@pytest.mark.parametrize(("count", "grain", "threads"), [(0, 1, 2), (1, 1, 8), (1000, 7, 3), (1000, 1, 64), (10, 100, 4)])
@pytest.mark.parametrize("lent", [True, False])
def test_a_loop_over_threads_does_everything_once(count, grain, threads, lent):
    numbers = torch.zeros(count + 1, dtype=torch.int32)
    NATIVE.core("use_team")(ctypes.c_void_p(torch_team() if lent else None))
    for _ in range(50):
        NATIVE.core("count_up")(array(numbers, torch.int32, (-1,), "numbers"), size(count), size(grain), threads)
    NATIVE.core("use_team")(ctypes.c_void_p(torch_team()))
    assert numbers[:count].eq(50).all() and numbers[count] == 0


@pytest.mark.skipif(NATIVE.isa is None or torch_team() is None, reason="no native kernels or no team here")
def test_the_threads_are_those_of_torch():
    code = """
import os, torch
from pomona.native import library
from pomona.native.buffers import array, size
torch.set_num_threads(3)
torch.randn(400, 400) @ torch.randn(400, 400)
torch.ones(1 << 22).exp_()
before = len(os.listdir("/proc/self/task"))
n = torch.zeros(1000, dtype=torch.int32)
library().core("count_up")(array(n, torch.int32, (-1,), "n"), size(1000), size(1), 3)
print(len(os.listdir("/proc/self/task")) - before, int(n.sum()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "1000"], done.stderr


@pytest.mark.skipif(NATIVE.isa is None or not hasattr(os, "fork"), reason="no native kernels or no fork here")
def test_threads_work_after_a_fork():
    code = """
import os, warnings, torch
warnings.simplefilter("ignore")
from pomona.native import library
from pomona.native.buffers import array, size
def run():
    n = torch.zeros(1000, dtype=torch.int32)
    library().core("count_up")(array(n, torch.int32, (-1,), "n"), size(1000), size(1), 2)
    return bool(n.eq(1).all())
assert run()
child = os.fork()
if child == 0:
    os._exit(0 if run() else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "0", done.stderr


def test_without_the_library_torch_works_and_the_reason_is_told():
    code = "from pomona.native import library; print(library().isa, '|', library().reason)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "POMONA_NATIVE": "off"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "None | POMONA_NATIVE=off"


def test_a_library_or_instruction_set_that_is_not_there_is_refused(tmp_path):
    code = "from pomona.native import library; library()"
    for name, value in (("POMONA_NATIVE", str(tmp_path / "none.so")), ("POMONA_ISA", "mmx")):
        if name == "POMONA_ISA" and NATIVE.isa is None:
            continue
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, name: value}, capture_output=True, text=True)
        assert done.returncode == 1 and f"InputError: {name}" in done.stderr


def test_a_file_that_is_no_library_leaves_torch(tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    code = "from pomona.native import library; print(library().isa, library().reason)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "POMONA_NATIVE": str(broken)}, capture_output=True, text=True
    )
    assert done.stdout.startswith("None broken.so cannot be loaded")


def test_kernels_are_handed_nothing_that_they_would_misread():
    good = torch.zeros(4, 6)
    array(good, torch.float32, (4, -1), "x")
    for bad in (good.double(), good.T, good[:, ::2], torch.zeros(5, 6), torch.zeros(4), good.to("meta")):
        with pytest.raises(InputError, match=r"x must be torch\.float32, contiguous"):
            array(bad, torch.float32, (4, -1), "x")


def test_padding_is_there_and_is_told():
    assert is_padded(padded(torch.ones(3))) and not is_padded(torch.ones(3))


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(InputError, match="no kernels for 'mmx'"), using("mmx"):
        pass


@pytest.mark.skipif(NATIVE.isa is None, reason="no native kernels here")
def test_a_library_that_is_older_than_the_code_says_what_to_do():
    with pytest.raises(InputError, match=r"has no pomona_[a-z0-9]+_nonsense: it is older"):
        NATIVE.kernel("nonsense")


@pytest.mark.parametrize("threads", [0, -1, 257, 10**6, 1.5, "2", True])
def test_thread_counts_that_cannot_be_are_refused(threads):
    with pytest.raises(InputError, match="At least one thread is needed and at most"):
        threads_of(threads)


def test_what_torch_has_already_is_never_too_much(monkeypatch):
    assert threads_of(None) == torch.get_num_threads() and threads_of(256) == 256
    monkeypatch.setattr("torch.get_num_threads", lambda: 384)
    assert threads_of(None) == threads_of(384) == 384
