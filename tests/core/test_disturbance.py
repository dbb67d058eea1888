"""What was seen of a device becomes a share, a record and, past a bound, the reason why a run is void."""

import pytest

from ralph.core.disturbance import Bounds, Tally
from ralph.ports import Sample


def cpu(at_s: float, *, own: float, busy: float, waited: float | None = None, stolen: float = 0.0) -> Sample:
    return Sample(at_s=at_s, own_s=own, busy_s=busy, waited_s=waited, stolen_s=stolen, cores=4)


def tally(*samples: Sample) -> Tally:
    seen = Tally()
    for sample in samples:
        seen.add(sample)
    return seen


def test_a_run_that_had_the_cores_for_itself_is_not_disturbed() -> None:
    seen = tally(cpu(100, own=1, busy=1000, waited=0.1), cpu(130, own=115, busy=1115, waited=0.6))
    assert seen.disturbed(Bounds()) == ""
    assert seen.others_share == pytest.approx(0.5 / 114)
    assert seen.record()["device_watched_s"] == 30


def test_a_run_beside_a_heavy_load_is_disturbed_and_the_words_say_by_how_much() -> None:
    seen = tally(cpu(0, own=0, busy=0, waited=0), cpu(30, own=80, busy=120, waited=38))
    assert seen.others_share == pytest.approx(38 / 80)
    assert seen.disturbed(Bounds()) == (
        "others took 38.0 CPU seconds from it, 48% of what it used, more than the 15% of device.disturbed_share"
    )


def test_what_others_compute_on_cores_that_the_run_does_not_want_is_free() -> None:
    seen = tally(cpu(0, own=0, busy=0, waited=0), cpu(30, own=30, busy=90, waited=0.4))
    assert seen.disturbed(Bounds()) == ""
    assert seen.record()["device_others_s"] == 60
    assert seen.record()["device_machine_share"] == 0.5


def test_a_run_that_gets_in_its_own_way_is_not_disturbed() -> None:
    """More threads than cores wait for each other; nobody else has computed meanwhile."""
    seen = tally(cpu(0, own=0, busy=0, waited=0), cpu(30, own=118, busy=120, waited=400))
    assert seen.disturbed(Bounds()) == ""


def test_without_the_kernels_count_of_waiting_all_that_others_computed_counts() -> None:
    seen = tally(cpu(0, own=0, busy=0), cpu(30, own=80, busy=110))
    assert seen.others_share == pytest.approx(30 / 80)


def test_what_a_hypervisor_took_counts_whoever_waited() -> None:
    seen = tally(cpu(0, own=0, busy=0, waited=0), cpu(30, own=60, busy=85, waited=0, stolen=25))
    assert seen.others_share == pytest.approx(25 / 60)
    assert seen.record()["device_stolen_s"] == 25


def test_a_run_that_hardly_computes_is_held_against_a_tenth_of_a_core() -> None:
    seen = tally(cpu(0, own=0, busy=0), cpu(30, own=0.01, busy=0.31))
    assert seen.others_share == pytest.approx(0.1)


def test_less_than_a_second_says_nothing() -> None:
    seen = tally(cpu(0, own=0, busy=0), cpu(0.5, own=0.1, busy=2))
    assert seen.others_share is None
    assert seen.disturbed(Bounds()) == ""


def gpu(at_s: float, *, others: tuple[str, ...] = (), slowed: tuple[str, ...] = (), celsius: float = 60) -> Sample:
    return Sample(at_s=at_s, others=others, slowed=slowed, temperature_c=celsius, clock_mhz=1980 - celsius)


def test_a_foreign_process_on_the_gpu_disturbs_once_it_was_there_for_more_than_its_share() -> None:
    alone, beside = gpu(0), gpu(2, others=("pid 7 (python, 2.0 GiB)",))
    assert tally(*[alone] * 9, beside).disturbed(Bounds()) == ""
    said = tally(*[alone] * 4, beside).disturbed(Bounds())
    assert "pid 7 (python, 2.0 GiB)" in said
    assert "20%" in said


def test_heat_disturbs_beyond_its_share_and_the_power_limit_never() -> None:
    hot = gpu(2, slowed=("heat",), celsius=91)
    assert tally(*[gpu(0)] * 9, hot).disturbed(Bounds()) == ""
    assert "slowed by heat for 50% of the time" in tally(gpu(0), hot).disturbed(Bounds())
    capped = Sample(at_s=0, capped=("power limit",))
    assert tally(capped, capped).disturbed(Bounds()) == ""
    assert tally(capped).record()["device_capped"] == "power limit"


def test_a_cpu_that_heat_slows_is_known_by_the_kernels_sum() -> None:
    first = Sample(at_s=0, own_s=0, busy_s=0, throttled_s=3)
    last = Sample(at_s=10, own_s=40, busy_s=40, throttled_s=8)
    assert tally(first, last).throttled_share == 0.5
    assert "heat" in tally(first, last).disturbed(Bounds())


def test_the_record_keeps_the_hottest_and_slowest_moment() -> None:
    record = tally(gpu(0), gpu(2, celsius=80), gpu(4, celsius=70)).record()
    assert (record["device_temperature_c"], record["device_clock_mhz"]) == (80, 1900)


def test_a_bound_of_one_is_never_passed() -> None:
    bounds = Bounds(disturbed_share=1.0, throttled_share=1.0)
    assert tally(cpu(0, own=0, busy=0), cpu(30, own=1, busy=120)).disturbed(bounds) == ""
    assert tally(gpu(0, slowed=("heat",), others=("x",))).disturbed(bounds) == ""


def test_what_could_not_be_seen_disturbs_nobody_and_is_on_record() -> None:
    seen = tally(
        Sample(at_s=0, unwatched="NVML: Driver Not Loaded"), Sample(at_s=9, unwatched="NVML: Driver Not Loaded")
    )
    assert seen.disturbed(Bounds()) == ""
    assert seen.record() == {"device_watched_s": 9, "device_unwatched": "NVML: Driver Not Loaded"}


def test_nothing_seen_is_nothing_on_record() -> None:
    assert Tally().record() == {}
