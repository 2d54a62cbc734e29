"""Conversions of columns that have data: beside a plain UPDATE of the same column, and of a large table while it is used.

What was converted is read once more, whole, through pgveil, and compared with what was written: a quick conversion that lost a row would
be no figure.
"""
import contextlib, pathlib, re, signal, statistics, subprocess, tempfile, time

from .measure import percentile, transactions_of
from .stage import Way, fail
from .twins import EMAIL

COLUMN = "public.customers.email"
TABLE = "CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL, name text, balance integer NOT NULL, note text)"
# pgbench makes numbers, which a text column takes as text: an address is a string of sixteen digits.
ROWS = "INSERT INTO customers SELECT g, ({email} + g)::text, 'Person ' || g, 0, repeat('x', 60) FROM generate_series(1, {rows}) g"
# Looks up by the column, reads it, writes rows that are converted already or not yet, and adds some.
LOAD = """\\set id random(1, {rows})
\\set e {email} + :id
UPDATE customers SET balance = balance + 1 WHERE id = :id;
SELECT id, email, balance FROM customers WHERE email = :e;
INSERT INTO customers (id, email, balance) VALUES (nextval('arrivals'), :id, 0);
"""


def make(stage, rows):
    """The table in clear, as if it had always been there."""
    stage.admin(f"SET client_min_messages = warning; DROP TABLE IF EXISTS customers; {TABLE}; {ROWS.format(email=EMAIL, rows=rows)};"
                f"CREATE INDEX ON customers (email); DROP SEQUENCE IF EXISTS arrivals; CREATE SEQUENCE arrivals START {rows + 1};"
                "GRANT ALL ON customers TO shop; GRANT ALL ON arrivals TO shop;")
    for tidied in ("VACUUM ANALYZE customers", "CHECKPOINT"):
        stage.admin(tidied)


def tag(stage):
    """Every proxy of the database must know of the column."""
    for place in (stage.folder, stage.memory):
        with open(place / "config/tags.toml", "a") as tags:
            tags.write(f'"{COLUMN}" = "email"\n')
    for name in ("pgveil", "log-in-memory"):
        subprocess.run(["kill", "-HUP", str(stage.proxies[name][1])], check=True)
    time.sleep(2)


def reseal(stage, *words):
    """Runs `pgveil reseal start`; seconds, and for how many ms it locked the table."""
    began = time.perf_counter()
    done = subprocess.run([stage.pgveil, "reseal", "start", "--config", stage.folder / "config", "--database",
                           stage.url(Way("admin", stage.port, "postgres")), COLUMN, *words], capture_output=True, text=True)
    taken = time.perf_counter() - began
    locked = re.search(r"locked for (\d+) ms", done.stdout)
    if done.returncode or not locked:
        fail(f"pgveil reseal failed: {done.stdout}{done.stderr}")
    return taken, int(locked.group(1))


def update(stage, rows):
    """The same column written anew by the server alone, with something as long as a cell; and made tidy as a conversion ends."""
    began = time.perf_counter()
    stage.admin("UPDATE customers SET email = email || repeat('x', 21)")
    stage.admin("VACUUM ANALYZE customers")
    return rows / (time.perf_counter() - began)


def against_update(stage, given):
    """Rows a second, one after the other in each round: a plain UPDATE of the column, in place, by an online copy."""
    rows, seen = given.update_rows, {"update": [], "in place": [], "online": []}
    for number in range(given.rounds):
        ways = list(seen)
        for way in ways[number % 3:] + ways[:number % 3]:
            make(stage, rows)
            if way == "update":
                seen[way].append({"per_second": update(stage, rows), "lock_ms": None})
                continue
            taken, lock = reseal(stage, *(["--online"] if way == "online" else ["--max-lock", "3600"]))
            check(stage, rows)
            seen[way].append({"per_second": rows / taken, "lock_ms": lock})
    return seen


def check(stage, rows):
    """That every row is there with its own address, through pgveil; and that the database has no address in clear."""
    way = stage.way("pass")
    command = [f"{stage.bin}/psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", "COPY (SELECT id, email FROM customers) TO STDOUT",
               stage.url(way)]
    seen, added = bytearray(rows + 1), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            row, email = line.rstrip("\n").split("\t")
            row = int(row)
            if row > rows:
                added += 1
            elif int(email) == EMAIL + row:
                seen[row] += 1
            else:
                fail(f"row {row} has the address of another")
    if child.returncode or seen.count(1) != rows or seen[0]:
        fail(f"{rows - seen.count(1)} rows are missing or there twice")
    clear = stage.admin("SELECT count(*) FROM customers WHERE octet_length(email) < 21").strip()
    if clear != "0":
        fail(f"{clear} rows are in clear")
    return added


@contextlib.contextmanager
def load(stage, given):
    """Clients at a fixed rate until the end; then `ended` has their transactions, as (end in ns, latency in µs), and what went wrong."""
    ended = {}
    with tempfile.TemporaryDirectory(dir=stage.memory) as place:
        script = pathlib.Path(place) / "load.sql"
        script.write_text(LOAD.format(rows=given.rows, email=EMAIL))
        command = [f"{stage.bin}/pgbench", "-n", "-M", "prepared", "-c", str(given.clients), "-j", "1", "-T", "86400", "-f", script,
                   f"--rate={given.rate}", "--log", f"--log-prefix={place}/log", stage.url(stage.way("pass"))]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            yield ended
        finally:
            # One that ends by itself has lost its clients.
            lost = child.poll() is not None
            child.send_signal(signal.SIGTERM)
            _, wrong = child.communicate()
            taken = whole_lines(place)
            ended.update(transactions=taken, errors=len(re.findall(r"error", wrong, re.IGNORECASE)) + lost, wrong=wrong)


def whole_lines(place):
    """pgbench was stopped, so the last line of its log may be half a one."""
    for log in pathlib.Path(place).glob("log.*"):
        text = log.read_text()
        log.write_text(text[:text.rfind("\n") + 1])
    return [(end, latency) for end, _, latency in transactions_of(place)[0]]


def under_load(stage, given):
    """A large table, while clients use it: before, during and after."""
    make(stage, given.rows)
    with stage.durable(), load(stage, given) as ended:
        time.sleep(5)
        start = time.time_ns()
        time.sleep(given.seconds)
        begun = time.time_ns()
        taken, lock = reseal(stage)
        done = time.time_ns()
        time.sleep(given.seconds)
    if ended["errors"]:
        fail(f"the load saw errors: {ended['wrong']}")
    added = check(stage, given.rows)
    spans = {"before": (start, begun), "during": (begun, done), "after": (done, time.time_ns())}
    figures = {name: span(ended["transactions"], *between) for name, between in spans.items()}
    return {"rows": given.rows, "added": added, "seconds": taken, "per_second": given.rows / taken, "lock_ms": lock, "load": figures}


def span(transactions, start, end):
    taken = sorted(latency for at, latency in transactions if start <= at < end)
    if not taken:
        fail("the load did nothing")
    return {"transactions": len(taken), "p50_us": percentile(taken, 50), "p99_us": percentile(taken, 99), "most_us": taken[-1]}


def markdown(given, seen, loaded):
    lines = []
    if seen:
        middle = lambda way, field: statistics.median(each[field] for each in seen[way])
        base = middle("update", "per_second")
        lines += [f"{given.update_rows:,} rows, one column of five, an index; medians of {given.rounds} interleaved rounds:", "",
                  "| | rows a second | × the UPDATE | lock |", "| --- | --- | --- | --- |",
                  f"| UPDATE and VACUUM | {base:,.0f} | | |"]
        for way in ("in place", "online"):
            ratio = statistics.median(one["per_second"] / other["per_second"] for one, other in zip(seen[way], seen["update"]))
            lines.append(f"| `reseal start`, {way} | {middle(way, 'per_second'):,.0f} | {ratio:.2f} | {middle(way, 'lock_ms'):,.0f} ms |")
    if loaded:
        lines += ["", f"{loaded['rows']:,} rows under load ({given.clients} clients, {given.rate} transactions of three statements a second "
                  f"through pgveil, PostgreSQL durable; {loaded['added']:,} rows came meanwhile): {loaded['seconds']:,.0f} s, "
                  f"{loaded['per_second']:,.0f} rows a second, the table locked for {loaded['lock_ms']} ms, no error.", "",
                  "| latency of a transaction | p50 | p99 | longest |", "| --- | --- | --- | --- |"]
        lines += [f"| {name} | {each['p50_us'] / 1e3:.1f} ms | {each['p99_us'] / 1e3:.1f} ms | {each['most_us'] / 1e3:,.0f} ms |"
                  for name, each in loaded["load"].items()]
    return "\n".join(lines)
