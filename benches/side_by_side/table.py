"""The figures as the Markdown that README shows: machine, versions and method, then speed, latency at a fixed rate, memory, goals."""
import statistics

from .goals import Goal

HEADS = {"direct": "direct", "floor": "bare relay", "pgbouncer": "PgBouncer", "pass": "pgveil, plain table", "sealed": "pgveil, sealed",
         "masked": "pgveil, masked", "log-in-memory": "sealed, log in memory"}
TITLES = {
    "pass": "point select by key, {0}, {1}",
    "select": "select by a sealed column, 3 opened, prepared, {0}",
    "insert": "insert, 3 sealed, prepared, {0}",
    "insert-durable": "the same, PostgreSQL waits for its disk, {0}",
    "scan": "scan of {people} rows × 6 columns, 3 sealed",
    "copy-out": "COPY out, the same rows",
    "copy-in": "COPY in, the same rows",
    "connect": "connect, log in, one query, leave",
    "mixed": "as TPC-B, 2 sealed columns, {clients} clients",
}
MEMORY = ("floor", "pgbouncer", "sealed")


def markdown(run):
    works = run["works"]
    parts = [method(run), speed(run), latency(run), memory(works), mixed(works), disk(works), goals(run["goals"])]
    return "\n\n".join(part for part in parts if part)


def method(run):
    machine, options = run["machine"], run["options"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {machine['postgres']}, {machine['pgbouncer']} (session mode), "
        f"{machine['pgveil']}; {run['date']}. All on one machine over loopback; PostgreSQL does not wait for its disk, pgveil's audit "
        f"log does. Medians of {options['rounds']} interleaved rounds of {options['seconds']} s. A cell: throughput as a ratio to "
        "direct · CPU of the proxy, all threads, per transaction or row."
    )


def title(name, run, record):
    work, *rest = name.removesuffix("/paced").split("/")
    rest = [f"{part} client{'s' * (part != '1')}" if part.isdigit() else part for part in rest]
    return TITLES[work].format(*rest, people=f"{run['options']['people']:,}", clients=record.get("clients"))


def middle(record, way, field):
    return statistics.median(each[field] for each in record["ways"][way])


def grid(heads, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines])


def speed(run):
    lines = []
    for name, record in run["works"].items():
        if "direct" in record["ways"] and not name.endswith("/paced"):
            others = [against_direct(record, way) if way in record["ways"] else "" for way in HEADS if way != "direct"]
            lines.append([title(name, run, record), absolute(record), *others])
    return grid(["work", *HEADS.values()], lines) if lines else ""


def absolute(record):
    direct = f"{middle(record, 'direct', 'per_second'):,.0f}/s"
    return direct + (f", p50 {middle(record, 'direct', 'p50_us'):,.0f} µs" if "p50_us" in record["ways"]["direct"][0] else "")


def against_direct(record, way):
    ratios = [one["per_second"] / other["per_second"] for one, other in zip(record["ways"][way], record["ways"]["direct"])]
    p50 = f" · p50 {middle(record, way, 'p50_us'):,.0f} µs" if "p50_us" in record["ways"][way][0] else ""
    cpu = middle(record, way, "cpu_us")
    spent = f"{cpu / 1e3:.1f} ms" if cpu >= 1e3 else f"{cpu:.1f} µs" if cpu >= 2 else f"{cpu:.2f} µs"
    return f"{statistics.median(ratios):.2f} · {spent}{p50}"


def latency(run):
    lines = []
    for name, record in run["works"].items():
        if name.endswith("/paced"):
            both = lambda way: f"{middle(record, way, 'p50_us'):,.0f} / {middle(record, way, 'p99_us'):,.0f}"
            cells = [both(way) if way in record["ways"] else "" for way in HEADS]
            lines.append([title(name, run, record), f"{record['rate']:,.0f}/s", *cells])
    intro = "p50 / p99 in µs at a fixed rate, counted from when a transaction was due:\n\n"
    return intro + grid(["work", "rate", *HEADS.values()], lines) if lines else ""


def memory(works):
    lines = []
    if "idle" in works:
        record = works["idle"]
        for state, words in (("fresh", "logged in"), ("used", "after a query")):
            held = [f"{record['ways'][way][0][f'{state}_kb']:.1f} kB" for way in MEMORY]
            lines.append([f"an idle connection, {words}, of {record['connections']:,}", *held])
    if "slow-reader" in works:
        ways = works["slow-reader"]["ways"]
        size = ways["sealed"][0]["read_mb"]
        lines.append([f"{size:,.0f} MB to a slow reader, peak growth", *(f"{ways[way][0]['growth_kb']:,} kB" for way in MEMORY)])
    return grid(["resident memory", *(HEADS[way] for way in MEMORY)], lines) if lines else ""


def mixed(works):
    if "mixed" not in works:
        return ""
    record, lines = works["mixed"], []
    for way, (each,) in record["ways"].items():
        held = f"{each['warm_kb'] / 1e3:.1f} → {each['last_kb'] / 1e3:.1f} MB" if each["last_kb"] else ""
        lines.append([HEADS[way], str(each["errors"]), held, f"{each['least']:,} to {each['most']:,}"])
    intro = f"As TPC-B for {record['seconds']} s with {record['clients']} clients:\n\n"
    return intro + grid(["way", "errors", "resident, warm → end", "transactions of a client"], lines)


def disk(works):
    probes = [probe for record in works.values() for probe in record.get("fdatasync", ())]
    if not probes:
        return ""
    p50, p99 = (statistics.median(probe[field] for probe in probes) for field in ("p50_us", "p99_us"))
    return (f"One `fdatasync` on the audit log's disk, asked beside each round: p50 {p50:,.0f} µs, p99 {p99:,.0f} µs. "
            "One client waits for one a sealed statement.")


def goals(found):
    lines = []
    for goal in map(Goal.of_record, found):
        lines.append([goal.name, goal.shown(goal.measured), f"{goal.sign} {goal.shown(goal.wanted)}", "met" if goal.met else "**missed**"])
    return grid(["goal", "measured", "wanted", ""], lines) if lines else ""
