"""What each figure is held to: one `goal NAME measured M wanted W met` (or `missed`) for each, for scripts to read.

Ratios and differences are taken within each round, and the median of the rounds counts.
"""
import statistics
from dataclasses import asdict, dataclass, fields

# A proxy may hold for a reader that dawdles: its high-water mark of 128 kB for each side, twice that where a buffer has grown, and room for one read each.
SLOW_READER_KB = 1024


@dataclass(frozen=True)
class Goal:
    name: str
    measured: float
    sign: str
    wanted: float
    unit: str = ""

    @property
    def met(self):
        """Of the figure as it is shown."""
        shown = round(self.measured, self.digits)
        return shown <= self.wanted if self.sign == "<=" else shown >= self.wanted

    @property
    def digits(self):
        return 1 if self.unit else 2

    def shown(self, value):
        return f"{value:.{self.digits}f}{self.unit}"

    def line(self):
        return (f"goal {self.name} measured {self.shown(self.measured)} wanted {self.sign}{self.shown(self.wanted)} "
                f"{'met' if self.met else 'missed'}")

    def record(self):
        return {**asdict(self), "met": self.met}

    @staticmethod
    def of_record(record):
        return Goal(*(record[field.name] for field in fields(Goal)))


def compared(record, field, way, base, by=lambda a, b: a / b if b else float("inf")):
    """One way against another, within each round."""
    pairs = zip(record["ways"][way], record["ways"][base])
    return statistics.median(by(one[field], other[field]) for one, other in pairs)


def ratio(name, record, field, way, base, sign, wanted):
    return Goal(name, compared(record, field, way, base), sign, wanted)


def of(name, record):
    """The goals that a work's record is held to."""
    work, _, rest = name.partition("/")
    if rest.endswith("paced"):
        return paced(name.removesuffix("/paced"), record) if work == "pass" else []
    return OF_WORK[work](name, record)


def pass_through(name, record):
    return [ratio(f"{name}/cpu-vs-pgbouncer", record, "cpu_us", "pass", "pgbouncer", "<=", 1),
            ratio(f"{name}/cpu-vs-floor", record, "cpu_us", "pass", "floor", "<=", 1),
            ratio(f"{name}/throughput-vs-pgbouncer", record, "per_second", "pass", "pgbouncer", ">=", 1)]


def paced(name, record):
    return [ratio(f"{name}/p99-vs-pgbouncer", record, "p99_us", "pass", "pgbouncer", "<=", 1)]


def select(name, record):
    later = lambda way: compared(record, "p50_us", way, "pass", lambda a, b: a - b)
    return [goal for way, of in twice(name)
            for goal in (ratio(f"{of}/cpu-vs-pass", record, "cpu_us", way, "pass", "<=", 1.15),
                         Goal(f"{of}/p50-over-pass", later(way), "<=", 5, "us"))]


def insert(name, record):
    return [goal for way, of in twice(name)
            for goal in (ratio(f"{of}/cpu-vs-pass", record, "cpu_us", way, "pass", "<=", 1.2),
                         ratio(f"{of}/throughput-vs-pass", record, "per_second", way, "pass", ">=", 0.95))]


def twice(name):
    """As shipped, and once more without the disk: what is then missed is our own."""
    return ("sealed", name), ("log-in-memory", f"{name}/log-in-memory")


def scan(name, record):
    return [ratio(f"{name}/pass-vs-direct", record, "per_second", "pass", "direct", ">=", 0.98),
            ratio(f"{name}/sealed-vs-direct", record, "per_second", "sealed", "direct", ">=", 0.9),
            ratio(f"{name}/masked-vs-sealed", record, "per_second", "masked", "sealed", ">=", 0.95)]


def copy(name, record):
    return [ratio(f"{name}/sealed-vs-direct", record, "per_second", "sealed", "direct", ">=", 0.9)]


def connect(name, record):
    return [ratio(f"{name}/cpu-vs-floor", record, "cpu_us", "pass", "floor", "<=", 1.5)]


def idle(name, record):
    each = record["ways"]["sealed"][0]
    return [Goal(f"{name}/{record['connections']}/{state}", each[f"{state}_kb"], "<=", 16, "kB") for state in ("fresh", "used")]


def slow_reader(name, record):
    return [Goal(f"{name}/peak-growth", record["ways"]["sealed"][0]["growth_kb"], "<=", SLOW_READER_KB, "kB")]


def mixed(name, record):
    sealed, direct = record["ways"]["sealed"][0], record["ways"]["direct"][0]
    fair = lambda each: each["least"] / max(each["most"], 1)
    return [Goal(f"{name}/errors", sealed["errors"], "<=", 0),
            Goal(f"{name}/memory-end-vs-warm", sealed["last_kb"] / max(sealed["warm_kb"], 1), "<=", 1.02),
            Goal(f"{name}/fairness-vs-direct", fair(sealed) / max(fair(direct), 1e-9), ">=", 0.9)]


OF_WORK = {
    "pass": pass_through, "select": select, "insert": insert, "insert-durable": insert, "scan": scan, "copy-out": copy, "copy-in": copy,
    "connect": connect, "idle": idle, "slow-reader": slow_reader, "mixed": mixed,
}
