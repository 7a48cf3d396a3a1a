"""The machine's rest, on machines unlike this one: what disturbs is named, what a machine does not tell is empty, nothing raises."""

import subprocess
import sys
import time
from itertools import chain, repeat

import pytest

from levelfield import host
from levelfield.measure import noise


class Pretended:
    """A machine of files: `/proc` and `/sys` in a folder, an affinity, clocks and this process's CPU seconds."""

    def __init__(self, folder, monkeypatch):
        self.proc, self.sys, self._patch = folder / "proc", folder / "sys", monkeypatch
        self.proc.mkdir()
        for module in (host, noise):
            monkeypatch.setattr(module, "PROC", self.proc)
            monkeypatch.setattr(module, "SYS", self.sys)
        monkeypatch.setattr(host.os, "sysconf", lambda name: 100)
        monkeypatch.setattr(host.os, "cpu_count", lambda: 64)
        self.allowed({0})

    def allowed(self, cpus: set[int] | None) -> None:
        if cpus is None:  # macOS
            self._patch.delattr(host.os, "sched_getaffinity")
        else:
            self._patch.setattr(host.os, "sched_getaffinity", lambda process: cpus)

    def stat(self, text: str) -> None:
        (self.proc / "stat").write_text(text)

    def write(self, path: str, text: str) -> None:
        file = self.sys.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def mounted(
        self, *groups: str, mount: str = "cg", root: str = "/", kind: str = "cgroup2 cgroup2 rw", line: str = "0::"
    ) -> None:
        """The process's control group `groups` as a path beneath `root`, mounted at `mount`."""
        self.write("proc/self/cgroup", f"{line}/{'/'.join(groups)}\n")
        self.write("proc/self/mountinfo", f"31 23 0:28 {root} {self.sys.parent / mount} rw shared:1 - {kind}\n")

    def watched(
        self, change, own: float = 0.0, seconds: float = 10.0, threads: int | None = None, on_gpu: bool = False
    ) -> dict:
        """What is measured over a block in which `change()` happens, this process uses `own` CPU seconds and time passes."""
        now, used = chain([0.0], repeat(seconds)), chain([0.0], repeat(own))
        self._patch.setattr(noise, "own_seconds", lambda: next(used))
        with noise.Restlessness(lambda: next(now), threads, on_gpu) as rest:
            change()
        return rest.measurements()


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    return Pretended(tmp_path, monkeypatch)


def test_other_work_and_stolen_time_are_named(pretended):
    pretended.stat("cpu  9999 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 9999 0 0 0 0 0 0 0 0 0\n")
    found = pretended.watched(
        lambda: pretended.stat("cpu  9999 0 0 0 0 0 0 0 0 0\ncpu0 1200 0 0 0 0 0 0 50 0 0\ncpu1 9999 0 0 0 0 0 0 0 0 0\n"),
        own=10,
    )
    assert found["others_cpu_share"] == pytest.approx(0.2) and found["steal_share"] == pytest.approx(0.05)
    assert found["noise_warning"] == "other work took 20% of the CPUs; the hypervisor took 5% of the CPUs"
    assert found["noise_untold"] is None


def test_what_is_stolen_is_stolen_from_the_runs_threads(pretended, monkeypatch):
    pretended.stat("".join(f"cpu{cpu} 0 0 0 0 0 0 0 0 0 0\n" for cpu in range(16)))
    monkeypatch.setattr(noise, "cpus_allowed", lambda: set(range(16)))
    stolen = "cpu0 800 0 0 0 0 0 0 200 0 0\n" + "".join(f"cpu{cpu} 0 0 0 0 0 0 0 0 0 0\n" for cpu in range(1, 16))
    found = pretended.watched(lambda: pretended.stat(stolen), own=8, threads=1)
    assert found["steal_share"] == pytest.approx(0.2) and found["noise_warning"] == "the hypervisor took 20% of the CPUs"


def test_a_whole_cpu_of_other_work_spoils_a_run_on_many(pretended, monkeypatch):
    pretended.stat("".join(f"cpu{cpu} 0 0 0 0 0 0 0 0 0 0\n" for cpu in range(64)))
    monkeypatch.setattr(noise, "cpus_allowed", lambda: set(range(64)))
    busy = "".join(f"cpu{cpu} 1000 0 0 0 0 0 0 0 0 0\n" for cpu in range(64))
    found = pretended.watched(lambda: pretended.stat(busy), own=640 - 30, threads=64)
    assert found["noise_warning"] == "other work took 5% of the CPUs"
    assert pretended.watched(lambda: None)["noise_warning"] is None


@pytest.mark.parametrize(
    ("on_gpu", "cpus", "threads", "own", "others", "said"),
    [
        (True, 16, 4, 1.1, 3.3, None),
        (True, 16, 4, 4.0, 12.0, None),
        (True, 16, 4, 3.0, 13.0, "other work took 25% of the CPUs"),
        (True, 64, 2, 2.0, 8.0, None),
        (True, 64, 2, 1.0, 63.0, "other work took 50% of the CPUs"),
        (True, 64, 64, 60.0, 2.0, "other work took 3% of the CPUs"),
        (True, 2, 2, 1.1, 0.9, "other work took 45% of the CPUs"),
        (True, 2, 1, 1.0, 1.0, None),
        (False, 64, 2, 2.0, 8.0, "other work took 12% of the CPUs"),
        (False, 2, 1, 1.0, 1.0, "other work took 50% of the CPUs"),
        (False, 2, 2, 1.0, 0.12, "other work took 6% of the CPUs"),
        (False, 2, 2, 1.9, 0.08, None),
    ],
    ids=[
        "four cards, each block's host loop on one CPU", "four cards, all CPUs at work", "four cards and a stranger",
        "a card, 2 of 64, neighbours on others", "a card, 2 of 64, neighbours on nearly all", "a card, 64 of 64, two CPUs taken",
        "a card, 2 of 2, one CPU taken", "a card, 1 of 2, a neighbour on the other",
        "2 of 64, neighbours on others", "1 of 2, a neighbour on the other", "2 of 2, a little", "2 of 2, next to nothing",
    ],
)  # fmt: skip
def test_other_work_disturbs_a_gpus_run_where_it_takes_cpus_from_it_and_a_cpus_run_anywhere(
    pretended, monkeypatch, on_gpu, cpus, threads, own, others, said
):
    monkeypatch.setattr(noise, "cpus_allowed", lambda: set(range(cpus)))
    rows = [f"cpu{cpu} {{}} 0 0 0 0 0 0 0 0 0\n" for cpu in range(cpus)]
    pretended.stat("".join(rows).format(*[0] * cpus))
    busy = "".join(rows).format(*[round((own + others) / cpus * 1000)] * cpus)
    found = pretended.watched(lambda: pretended.stat(busy), own=10 * own, threads=threads, on_gpu=on_gpu)
    assert found["noise_warning"] == said
    assert found["others_cpu_share"] == pytest.approx(others / cpus, abs=2e-3), "it is told all the same"


def test_a_quiet_machine_is_not_warned_of_and_an_unknown_one_not_invented(pretended):
    found = pretended.watched(lambda: None)
    empty = ("others_cpu_share", "steal_share", "throttled_share", "frequency_change", "cpu_clock_mhz", "efficiency_core_share",
             "noise_warning")  # fmt: skip
    assert [found[name] for name in empty] == [None] * len(empty)
    assert found["noise_untold"] == f"no CPU times in {pretended.proc / 'stat'}"


@pytest.mark.parametrize(
    ("allowed", "shown", "others"),
    [
        ({1}, "cpu  {0} 0 0 0 0 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0 0 0\n", 0.2),
        ({4, 9}, "cpu  {0} 0 0 0 0 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n", 0.1),
        ({0, 1, 2, 3}, "cpu  {0} 0 0 0 0 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0 0 0\n", 0.2),
        ({5}, "cpu  {0} 0 0 0 0 0 0 0 0 0\n", 0.2),
        (None, "cpu  {0} 0 0 0 0 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n", 0.1),
        ({0}, "cpu0 {0} 0 0 0 0 0 0\n", 0.2),
        ({0}, "cpu0 {0} 0 0 0\n", 0.2),
    ],
    ids=["lxcfs numbers from 0", "of two", "a quota shown as fewer", "the sum alone", "no affinity", "no steal", "Linux 2.4"],
)
def test_a_container_may_number_its_cpus_otherwise(pretended, allowed, shown, others):
    pretended.allowed(allowed)
    pretended.stat(shown.format(0))
    found = pretended.watched(lambda: pretended.stat(shown.format(1200)), own=10)
    assert found["others_cpu_share"] == pytest.approx(others)
    if len(shown.split("cpu0")[-1].split()) < 8 and "cpu0" in shown:
        assert found["steal_share"] is None, "not counted is not 0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "intr 5\n",
        "cpu\n",
        "cpu0 a b c d e f g h\n",
        "cpu  1 2\ncpu0 1 2\n",
        "\0\0\0",
        "cpu8 1 1 1 1 1 1 1 1\ncpu9 1 1 1 1 1 1 1 1\n",
    ],
)
def test_times_that_cannot_be_read_are_empty_and_say_why(pretended, text):
    pretended.stat(text)
    found = pretended.watched(lambda: None)
    assert (
        found["others_cpu_share"] is None
        and found["steal_share"] is None
        and str(pretended.proc / "stat") in found["noise_untold"]
    )


def test_another_containers_cpus_are_not_taken_for_ones_own(pretended):
    pretended.allowed({8})
    rows = "cpu  {0} 0 0 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n"
    pretended.stat(rows.format(0))
    found = pretended.watched(lambda: pretended.stat(rows.format(900)))
    assert found["others_cpu_share"] is None and found["noise_warning"] is None
    assert found["noise_untold"].endswith("shows 2 CPUs, and not all of the 1 that this process may use")


def test_what_this_process_started_is_no_other_work():
    before = noise.own_seconds()
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\ntime.sleep(30)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    assert noise.own_seconds() - before >= 0.35, "while it runs"
    child.kill()
    child.wait()
    assert noise.own_seconds() - before >= 0.35, "and when it has ended"


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("6400000 100000", 8), ("", 8), ("odd", 8),
     ("200000 0", 8)],
)  # fmt: skip
def test_a_quota_below_the_affinity_counts(pretended, quota, cpus):
    pretended.allowed(set(range(8)))
    pretended.mounted()
    pretended.write("cg/cpu.max", quota)
    assert host.cpus_available() == cpus


def test_the_narrowest_of_nested_groups_counts(pretended):
    pretended.allowed(set(range(8)))
    pretended.mounted("pod", "container")
    pretended.write("cg/pod/cpu.max", "300000 100000\n")
    pretended.write("cg/pod/container/cpu.max", "max 100000\n")
    assert host.cpus_available() == 3
    pretended.write("cg/pod/container/cpu.max", "100000 100000\n")
    assert host.cpus_available() == 1


def test_version_1_and_a_container_that_sees_the_hosts_paths(pretended):
    pretended.allowed(set(range(8)))
    pretended.mounted("docker", "f00", root="/docker/f00", kind="cgroup cgroup rw,cpu,cpuacct", line="4:cpu,cpuacct:")
    pretended.write("cg/cpu.cfs_quota_us", "400000\n")
    pretended.write("cg/cpu.cfs_period_us", "100000\n")
    assert host.cpus_available() == 4
    pretended.write("cg/cpu.cfs_quota_us", "-1\n")
    assert host.cpus_available() == 8
    pretended.mounted("elsewhere", root="/docker/f00", kind="cgroup cgroup rw,cpu,cpuacct", line="4:cpu,cpuacct:")
    pretended.write("cg/cpu.cfs_quota_us", "100000\n")
    assert host.cpus_available() == 1, "a group that is not beneath the mount: its top is what can be seen"


def test_a_mount_with_a_blank_in_its_name(pretended):
    pretended.allowed(set(range(8)))
    pretended.mounted(mount="c\\040g")
    pretended.write("c g/cpu.max", "200000 100000\n")
    assert host.cpus_available() == 2


def test_without_control_groups_or_affinity_every_cpu_counts(pretended):
    pretended.allowed(None)
    assert host.cpus_available() == 64 and host.cpu_quota() is None and host.throttled_seconds() is None


@pytest.mark.parametrize(
    ("version", "unit"), [("cgroup2 cgroup2 rw", ("throttled_usec", 1e6)), ("cgroup cgroup rw,cpu", ("throttled_time", 1e9))]
)
def test_throttling_is_measured_and_spoils_the_run(pretended, version, unit):
    name, second = unit
    pretended.allowed(set(range(8)))
    pretended.mounted(kind=version, line="0::" if "cgroup2" in version else "1:cpu:")
    pretended.write(
        "cg/cpu.max" if "cgroup2" in version else "cg/cpu.cfs_quota_us", "200000 100000" if "cgroup2" in version else "200000"
    )
    pretended.write("cg/cpu.cfs_period_us", "100000")
    told = "nr_periods {0}\nnr_throttled {0}\n" + name + " {1:.0f}\n"
    pretended.write("cg/cpu.stat", told.format(5, 7 * second))
    found = pretended.watched(lambda: pretended.write("cg/cpu.stat", told.format(40, 9 * second)))
    assert found["throttled_share"] == pytest.approx(0.1)  # 2 s of 10 s, two CPUs
    assert found["noise_warning"] == "the control group's CPU quota withheld 10% of the CPUs"
    found = pretended.watched(lambda: None)
    assert found["throttled_share"] == 0 and found["noise_warning"] is None


def test_an_idle_clock_that_boosts_is_no_noise_and_a_fall_under_load_is(pretended):
    assert noise.clock_change([4000.0] * 6) == 0
    assert noise.clock_change([800, 4000, 4000, 4000, 3900, 4000]) == 0, "a reading before the load"
    assert noise.clock_change([4000, 4000, 4000, 4000, 2800, 2800, 2800, 2800]) == pytest.approx(-0.3)
    assert noise.clock_change([4000, 2000]) is None and noise.clock_change([]) is None
    assert "clock" not in (noise.warning(None, None, 4.0) or "") and "-30%" in noise.warning(None, None, -0.3)


def test_the_clock_is_that_of_the_busiest_of_ones_own_cpus(pretended):
    pretended.allowed({1, 2})
    listed = "".join(f"processor\t: {cpu}\ncpu MHz\t\t: {clock}\n\n" for cpu, clock in enumerate((5000, 800, 3900, 800)))
    pretended.write("proc/cpuinfo", listed)
    assert noise.frequency_mhz() == 3900
    for cpu, clock in enumerate((5000, 3700, 800)):
        pretended.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{clock}000\n")
    assert noise.frequency_mhz() == 3700
    pretended.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "<unknown>\n")
    assert noise.frequency_mhz() == 3900


def test_the_clock_is_read_while_the_block_runs(pretended, monkeypatch):
    monkeypatch.setattr(noise, "CLOCK_SECONDS", 0.01)
    clocks = chain([4000.0] * 4, repeat(2000.0))
    monkeypatch.setattr(noise, "frequency_mhz", lambda: next(clocks))

    found = pretended.watched(lambda: time.sleep(0.4))
    assert found["cpu_clock_mhz"] == 2000


def test_which_kind_of_core_did_the_work(pretended):
    pretended.allowed({0, 1})
    rows = "cpu  0 0 0 0 0 0 0 0\ncpu0 {} 0 0 0 0 0 0 0\ncpu1 {} 0 0 0 0 0 0 0\n"
    pretended.stat(rows.format(0, 0))
    assert pretended.watched(lambda: None)["efficiency_core_share"] is None
    pretended.write("sys/devices/cpu_core/cpus", "0\n")
    pretended.write("sys/devices/cpu_atom/cpus", "1-3\n")
    assert host.core_kinds() == {0: "performance", 1: "efficiency", 2: "efficiency", 3: "efficiency"}
    assert pretended.watched(lambda: pretended.stat(rows.format(300, 100)))["efficiency_core_share"] == pytest.approx(0.25)


def test_cores_of_other_makers_are_told_apart_by_their_capacity(pretended):
    for cpu, size in enumerate((446, 446, 1024, 1024)):
        pretended.write(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", f"{size}\n")
    assert host.core_kinds() == {0: "efficiency", 1: "efficiency", 2: "performance", 3: "performance"}
    pretended.write("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n")
    pretended.write("sys/devices/system/cpu/cpu1/cpu_capacity", "1024\n")
    assert host.core_kinds() == {}
