"""In processes of their own: what is set is set for all of a process."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from pomona.native.kept_memory import kept_memory

torch.set_num_threads(1)


def faults(size=16_000_000):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(size)  # 64 MB each, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


outside = faults()
with kept_memory():
    faults()  # the first may leave holes a little too small for the next
    inside = faults()
    held = resident()
after = faults(40_000_000)  # larger than any hole that is left
print(outside, inside, after, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of the C library of Linux")
def test_memory_is_given_out_again_within_and_goes_back_to_the_system_afterwards():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    outside, inside, after, returned = map(int, done.stdout.split())
    assert inside < outside / 5 and after > outside / 2
    assert returned > 50_000_000


def test_settings_of_the_environment_stand():
    code = "import pomona.native.kept_memory as m\nprint(m._glibc())"
    environment = {"MALLOC_TRIM_THRESHOLD_": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "None"
