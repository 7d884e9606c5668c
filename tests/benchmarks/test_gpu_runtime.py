"""The table of GPU kernels: its rows and figures, by a clock of ours; and nothing where there is no GPU."""

import pytest
import torch
from benchmarks.gpu_runtime import Row, main, page, rows_of

from pomona.runtime.gpu.device import Gpu
from pomona.runtime.gpu.spans import Spans

CPU = Gpu(torch.device("cpu"), "one of ours", 132, "cutlass", lambda turns: {}, lambda weight, _: weight.detach())


def sampled(turns):
    """Each twice as fast as the one before, whichever it is; all are called."""
    for call in turns.values():
        call()
    return {name: [2.0**-place, 2.0**-place * 1.5] for place, name in enumerate(turns)}


def test_each_way_has_a_row_with_its_own_bytes_and_the_kernel_only_its_fastest():
    rows = rows_of((64, 1024), 1, CPU, sampled, copied=1 << 10)
    assert [(row.name.split()[0], row.zeros) for row in rows] == [
        ("dense", 0.0), ("2:4", 0.5), ("spans", 0.5), ("spans", 0.7), ("spans", 0.9)
    ]  # fmt: skip
    dense, sparse, *spans = rows
    moved = 2 * (64 + 1024)
    assert dense.nbytes == 64 * 1024 * 2 + moved and sparse.nbytes == 64 * 1024 * 2 * 9 / 16 + moved
    assert spans[0].nbytes > spans[1].nbytes > spans[2].nbytes > 64 * 1024 / 8
    assert all("tall=16 parts=2" in row.name for row in spans)  # the last of its settings, so the fastest here
    assert Spans.pack(torch.zeros(64, 1024).bfloat16()).nbytes < spans[2].nbytes


def test_large_batches_are_for_2_4_alone():
    assert [row.name.split()[0] for row in rows_of((64, 128), 64, CPU, sampled, copied=16)] == ["dense", "2:4"]


def test_the_page_shows_medians_ratios_and_shares_of_the_limit():
    row = Row((64, 128), 1, "2:4", 0.5, [1e-6, 2e-6, 4e-6], [4e-6, 4e-6, 4e-6], nbytes=1_000_000, rate=1e12)
    text = page([row], "one of ours", rounds=3)
    assert "| 64x128 | 1 | 2:4 | 50% | 2.0 | 1.2 to 3.6 | 2.00 | 1.50 to 3.00 | 50% |" in text
    assert "`python -m benchmarks.gpu_runtime --rounds 3`; one of ours." in text and "1.00 TB/s" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "page.md")]) == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err and not list(tmp_path.iterdir())
