"""What memory there is, as the system says."""

from pomona.engines.memory import available


def test_a_container_has_no_more_than_it_may_take(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:    4000 kB\n")
    assert available(tmp_path) == 4000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    (group / "memory").mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("77\n")
    assert available(tmp_path) == 4000 * 1024
    (group / "memory.max").write_text("1000077\n")
    assert available(tmp_path) == 10**6
    (group / "memory.current").write_text("2000000\n")
    assert available(tmp_path) == 0
    (group / "memory.current").write_text("77\n")
    (group / "memory/memory.limit_in_bytes").write_text("500000\n")  # as in the first version of groups
    (group / "memory/memory.usage_in_bytes").write_text("1000\n")
    assert available(tmp_path) == 499_000


def test_here_there_is_some():
    assert 10**6 < available() < 10**15
