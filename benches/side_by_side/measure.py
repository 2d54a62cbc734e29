"""How it is measured: clocks, memory, pgbench, psql, the disk.

CPU is the kernel's own clock of a process, in nanoseconds, of all its threads, ended ones included. pgbench's log says when each
transaction ended, and the clock is read while it runs: so what is counted lies between two readings, and log-ins and start-up do
not count.
"""
import bisect, os, pathlib, re, statistics, subprocess, tempfile, time
from dataclasses import dataclass

from .stage import fail

READ_EVERY_S = 0.05


def cpu_ns(pid):
    """clock_getcpuclockid(3). `/proc/PID/schedstat` has the first thread's only, `/proc/PID/stat` counts in ticks of 10 ms."""
    return time.clock_gettime_ns(~pid << 3 | 2) if pid else 0


def held_kb(pid):
    """Resident memory, cheaply: newer kernels are some pages off for each core."""
    return of_proc(pid, "status", "VmRSS") if pid else 0


def held_exactly_kb(pid):
    """Resident memory, by a walk through all pages, which stops the process for a moment."""
    return of_proc(pid, "smaps_rollup", "Rss")


def peak_kb(pid):
    """The most that was resident since `forget_peak`; as exact as `held_kb`."""
    return of_proc(pid, "status", "VmHWM")


def forget_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def of_proc(pid, file, field):
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except OSError:
        found = None
    # One that has ended and was not yet waited for has a file without the line.
    return int(found.group(1)) if found else fail(f"process {pid} has ended")


def rounds(options, ways, measure):
    """Every round takes all ways, one after the other, and begins with the next one: a slow minute is everybody's."""
    seen = {way.name: [] for way in ways}
    for number in range(options.rounds):
        first = number % len(ways)
        for way in ways[first:] + ways[:first]:
            seen[way.name].append(measure(way))
    return seen


@dataclass
class Run:
    """One run of pgbench: its transactions, as (end in ns, client, latency in µs), and what was read beside it, as (ns, CPU in ns,
    resident kB)."""
    transactions: list
    readings: list
    errors: int
    wrong: str

    def figures(self):
        """Throughput, latency and CPU between a reading after the start and one near the end."""
        ends = [end for end, *_ in self.transactions]
        if not ends:
            fail(f"pgbench did nothing: {self.wrong}")
        length = ends[-1] - ends[0]
        inside = [reading for reading in self.readings if ends[0] + length // 10 <= reading[0] <= ends[-1] - length // 50]
        if len(inside) < 2:
            fail("the run was too short to be measured")
        (start, cpu_start, _), (end, cpu_end, _) = inside[0], inside[-1]
        taken = sorted(latency for *_, latency in self.transactions[bisect.bisect(ends, start):bisect.bisect(ends, end)])
        return {"per_second": len(taken) / (end - start) * 1e9, "p50_us": percentile(taken, 50), "p99_us": percentile(taken, 99),
                "cpu_us": (cpu_end - cpu_start) / max(len(taken), 1) / 1e3}


def percentile(ordered, share):
    return ordered[min(len(ordered) * share // 100, len(ordered) - 1)] if ordered else 0


def pgbench(stage, way, script, mode, clients, seconds, rate=0, reconnect=False, may_fail=False):
    """Runs a script's text, with `{twin}` for the way's tables. One thread drives all clients."""
    with tempfile.TemporaryDirectory(dir=stage.memory) as place:
        file = pathlib.Path(place) / "script.sql"
        file.write_text(script.format(twin=way.twin))
        command = [f"{stage.bin}/pgbench", "-n", "-M", mode, "-c", str(clients), "-j", "1", "-T", str(seconds), "-f", file,
                   "--log", f"--log-prefix={place}/log"]
        command += [f"--rate={rate:.0f}"] * bool(rate) + ["--connect"] * reconnect
        child = subprocess.Popen([*command, stage.url(way)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        readings = []
        while True:
            try:
                output, wrong = child.communicate(timeout=READ_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                readings.append((time.time_ns(), cpu_ns(way.pid), held_kb(way.pid)))
        if child.returncode and not may_fail:
            fail(f"pgbench failed, {way.name}: {wrong}")
        transactions, failed = transactions_of(place)
        # A client that gives up says so; the first that cannot log in ends it all.
        errors = failed + len(re.findall(r"^.*error.*$", wrong, re.MULTILINE)) + bool(child.returncode)
        return Run(transactions, readings, errors, wrong)


def transactions_of(place):
    """Of pgbench's log: client, number, latency in µs (from when it was due, where a rate was given), script, seconds, microseconds."""
    taken, failed = [], 0
    for log in pathlib.Path(place).glob("log.*"):
        for line in log.read_text().splitlines():
            client, _, latency, _, seconds, micros, *_ = line.split()
            if latency.isdigit():
                taken.append((int(seconds) * 1_000_000_000 + int(micros) * 1_000, int(client), int(latency)))
            else:
                failed += 1
    return sorted(taken), failed


class Psql:
    """A psql session that throws results away and says how long each statement took until its last row was there. What psql does
    with the rows afterwards is no part of it, but for COPY."""

    def __init__(self, stage, way):
        self.way = way
        # psql would keep what it says to itself until its buffer is full.
        command = ["stdbuf", "-oL", f"{stage.bin}/psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", stage.url(way)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.child.stdin.write("\\timing on\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()

    def run(self, command):
        """Seconds, and the CPU seconds that the proxy took meanwhile."""
        before = cpu_ns(self.way.pid)
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        for line in self.child.stdout:
            if line.startswith("Time: "):
                return float(line.split()[1]) / 1e3, (cpu_ns(self.way.pid) - before) / 1e9
        fail(f"psql failed, {self.way.name}: {command}")


def by_rows(stage, way, command, rows, times, before=lambda: None):
    """Of a statement that moves so many rows, the median of some runs in one session. The first, which plans and warms, is left out."""
    with Psql(stage, way) as psql:
        taken = []
        for _ in range(times + 1):
            before()
            taken.append(psql.run(command.format(twin=way.twin)))
    seconds, cpu = zip(*taken[1:])
    return {"per_second": rows / statistics.median(seconds), "cpu_us": statistics.median(cpu) / rows * 1e6}


def fdatasync_us(place, times=50):
    """What the audit log waits for: a line within a file that is there already, and on disk. (p50, p99)."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=place, buffering=0) as file:
        file.write(bytes(300 * times))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(times):
            start = time.perf_counter_ns()
            file.write(b"x" * 300)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter_ns() - start) // 1000)
    taken.sort()
    return {"p50_us": percentile(taken, 50), "p99_us": percentile(taken, 99)}
