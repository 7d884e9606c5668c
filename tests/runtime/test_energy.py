"""Energy, and who says it."""

import sys
import time
from types import SimpleNamespace

import pytest

from pomona.runtime.energy import energy_of
from pomona.vocabulary import InputError


def busy():
    end = time.process_time() + 0.01
    while time.process_time() < end:
        pass


def package(folder, number, joules, full=1000):
    made = folder / f"intel-rapl:{number}"
    made.mkdir(parents=True)
    (made / "energy_uj").write_text(f"{joules}\n")
    (made / "max_energy_range_uj").write_text(f"{full}\n")
    return made / "energy_uj"


def test_without_counters_it_is_processor_time_times_stated_watts(tmp_path):
    found = energy_of(busy, seconds=0.05, watts=20.0, by="model", rapl=tmp_path)
    assert found.by == "model" and found.watts == 20.0 and "20 W" in found.said
    assert found.joules == pytest.approx(0.2, rel=0.2)
    assert energy_of(lambda: time.sleep(0.02), seconds=0.02, by="model").joules < 0.02


def test_the_packages_counters_are_added_and_may_overflow(tmp_path):
    first, second = package(tmp_path, "0", 100), package(tmp_path, "1", 900)
    package(tmp_path, "0:0", 5)  # a part of the first package

    def call():
        first.write_text("400\n")
        second.write_text("50\n")  # it was full at 1000
        time.sleep(0.02)

    found = energy_of(call, seconds=0.001, rapl=tmp_path)
    assert found.by == "rapl" and found.joules == pytest.approx((300 + 150) / 1e6) and found.watts is None


def test_codecarbon_comes_before_the_model(tmp_path, monkeypatch):
    class Tracker:
        final_emissions_data = SimpleNamespace(energy_consumed=1e-6)  # kWh

        def __init__(self, **_):
            pass

        def start(self):
            pass

        def stop(self):
            pass

    module = SimpleNamespace(OfflineEmissionsTracker=Tracker, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    found = energy_of(lambda: time.sleep(0.02), seconds=0.001, rapl=tmp_path)
    assert found.by == "codecarbon" and found.joules == pytest.approx(3.6)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="by rapl here; there is"):
        energy_of(busy, by="rapl", rapl=tmp_path)
    for wrong in ({"watts": 0}, {"watts": float("nan")}, {"watts": float("inf")}, {"seconds": float("nan")}):
        with pytest.raises(InputError, match="power above 0"):
            energy_of(busy, **wrong)
