"""The works: one for each line of what pgveil is held to (goals.py). Each yields `(name, record)`; a record has the rounds of
every way, and what else was seen.
"""
import math, statistics, sys, time

from . import twins
from .measure import by_rows, fdatasync_us, forget_peak, held_exactly_kb, peak_kb, pgbench, rounds
from .stage import fail
from .wire import Client

NEIGHBOURS = ("direct", "floor", "pgbouncer", "pass")
CLIENTS = (1, 8)

# \gset has pgbench give up where there is not exactly one row.
BY_KEY = "\\set id random(1, {people})\nSELECT id, note FROM people_{{twin}} WHERE id = :id \\gset\n"
BY_EMAIL = (f"\\set email {twins.EMAIL} + random(1, {twins.CONTACTS})\n"
            "SELECT email, name, card FROM contacts_{twin} WHERE email = :email \\gset found_\n")
INSERT = (f"\\set email {twins.EMAIL} + random(1, 1000000000)\n"
          "INSERT INTO arrivals_{twin} (id, email, name, card, note) VALUES (nextval('ids'), :email, :email, :email, 'n');\n")
MIXED = f"""\\set aid random(1, {twins.ACCOUNTS})
\\set tid random(1, {twins.TELLERS})
\\set bid random(1, {twins.BRANCHES})
\\set delta random(-5000, 5000)
\\set email {twins.EMAIL} + :aid
BEGIN;
UPDATE accounts_{{twin}} SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance, email, name FROM accounts_{{twin}} WHERE email = :email;
UPDATE tellers_{{twin}} SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE branches_{{twin}} SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO history_{{twin}} (tid, bid, aid, delta, email, name) VALUES (:tid, :bid, :aid, :delta, :email, :email);
END;
"""
ROW = "SELECT * FROM people_{twin};"


def select_by_key(stage, options):
    """Nothing is tagged: what it costs to be in the way at all."""
    for mode in ("simple", "extended", "prepared"):
        for clients in CLIENTS:
            ways = [stage.way(name) for name in NEIGHBOURS]
            script = BY_KEY.format(people=options.people)
            yield from closed_and_paced(stage, options, f"pass/{mode}/{clients}", ways, script, mode, clients)


def select_by_email(stage, options):
    """One cell sealed for the question, three opened of the answer, evidence on disk before it leaves."""
    for clients in CLIENTS:
        ways = [stage.way(name) for name in (*NEIGHBOURS, "sealed", "masked", "log-in-memory")]
        yield from closed_and_paced(stage, options, f"select/{clients}", ways, BY_EMAIL, "prepared", clients)


def closed_and_paced(stage, options, name, ways, script, mode, clients):
    """As fast as it goes; then all at one rate, 40 % of the slowest way's, where latency counts from when a transaction was due."""
    run = lambda rate: with_disk(
        stage, options, ways, lambda way: pgbench(stage, way, script, mode, clients, options.seconds, rate).figures())
    flat_out = run(0)
    yield name, flat_out
    rate = 0.4 * min(middle(each, "per_second") for each in flat_out["ways"].values())
    yield f"{name}/paced", {**run(rate), "rate": rate}


def insert(stage, options):
    """Three cells sealed, in front of a server that waits for no disk, and in front of one that does as ours does."""
    for clients in CLIENTS:
        ways = [stage.way(name) for name in (*NEIGHBOURS, "sealed", "log-in-memory")]
        run = lambda way: pgbench(stage, way, INSERT, "prepared", clients, options.seconds).figures()
        yield f"insert/{clients}", with_disk(stage, options, ways, run)
        with stage.durable():
            yield f"insert-durable/{clients}", with_disk(stage, options, ways, run)
        stage.admin("TRUNCATE arrivals_plain, arrivals_sealed;")


def scan(stage, options):
    """Three of six columns opened, or masked, in text."""
    ways = [stage.way(name) for name in (*NEIGHBOURS, "sealed", "masked")]
    yield "scan", with_disk(stage, options, ways, lambda way: by_rows(stage, way, ROW, options.people, times(options)))


def copy(stage, options):
    """COPY of the same rows, out of the server and in."""
    ways = [stage.way(name) for name in (*NEIGHBOURS, "sealed")]
    run = lambda command, *before: with_disk(
        stage, options, ways, lambda way: by_rows(stage, way, command, options.people, times(options), *before))
    yield "copy-out", run("COPY people_{twin} TO STDOUT;")
    yield "copy-in", run(f"\\copy copied_{{twin}} FROM '{options.people_file}'",
                         lambda: stage.admin("TRUNCATE copied_plain, copied_sealed;"))


def connect(stage, options):
    """Connect, log in, one query, leave. A proxy that computed PBKDF2 would show it here: some milliseconds of CPU."""
    ways = [stage.way(name) for name in NEIGHBOURS]
    script = BY_KEY.format(people=options.people)
    run = lambda way: pgbench(stage, way, script, "simple", 1, options.seconds, reconnect=True).figures()
    yield "connect", {"ways": rounds(options, ways, run)}


def idle(stage, options):
    """Resident memory of a connection that has just logged in, and of one that has looked up sealed cells since."""
    record = {"ways": {}, "connections": options.connections}
    for name in ("floor", "pgbouncer", "sealed"):
        stage.restart()
        way = stage.way(name)
        sql = f"SELECT email, name, card FROM contacts_{way.twin} WHERE email = '{twins.EMAIL + 7}'"
        first = [Client(way) for _ in range(10)]
        for client in first:
            client.query(sql)
        base = settled_kb(way.pid)
        clients = [Client(way) for _ in range(options.connections)]
        fresh = settled_kb(way.pid)
        for client in clients:
            client.query(sql)
        used = settled_kb(way.pid)
        for client in first + clients:
            client.close()
        per_connection = lambda kb: (kb - base) / options.connections
        record["ways"][name] = [{"fresh_kb": per_connection(fresh), "used_kb": per_connection(used), "process_kb": base}]
    yield "idle", record


def settled_kb(pid):
    time.sleep(1)
    return held_exactly_kb(pid)


def slow_reader(stage, options):
    """A result of about 1 GB to a client that stops for half a second twenty times: the most that the proxy grew by."""
    stage.restart()
    record = {"ways": {}}
    for name in ("floor", "pgbouncer", "sealed"):
        way = stage.way(name)
        client = Client(way)
        client.query(f"SELECT * FROM people_{way.twin} LIMIT 1000")
        forget_peak(way.pid)
        base = peak_kb(way.pid)
        # A row is about 100 bytes to the client.
        times_over = math.ceil(options.bytes / 100 / options.people)
        read = dawdle(client, f"SELECT p.* FROM people_{way.twin} p, generate_series(1, {times_over}) g", options.bytes // 20)
        record["ways"][name] = [{"growth_kb": peak_kb(way.pid) - base, "read_mb": read / 1e6}]
        client.close()
    yield "slow-reader", record


def dawdle(client, sql, stop_every):
    """Reads a whole reply, with pauses. Returns its bytes."""
    client.ask(sql)
    read, next_stop = 0, 0
    # ReadyForQuery ends the reply; in these rows, with no Z in them, its bytes are nowhere else.
    tail = b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        if read >= next_stop:
            time.sleep(0.5)
            next_stop += stop_every
        some = client.socket.recv(256 * 1024)
        read, tail = read + len(some), (tail + some)[-6:]
        if not some:
            fail("the reply broke off")
    if read < 10 * stop_every:
        fail(f"the reply was {read} bytes: {tail!r}")
    return read


def mixed(stage, options):
    """As TPC-B, in each transaction a look-up by a sealed column and two sealed columns written. One long run a way."""
    stage.restart()
    record = {"ways": {}, "seconds": options.mixed_seconds, "clients": options.mixed_clients}
    for name in (*NEIGHBOURS, "sealed"):
        way = stage.way(name)
        run = pgbench(stage, way, MIXED, "prepared", options.mixed_clients, options.mixed_seconds, may_fail=True)
        each = [0] * options.mixed_clients
        for _, client, _ in run.transactions:
            each[client] += 1
        held = [kb for *_, kb in run.readings]
        warm, last = statistics.median(held[len(held) // 3:len(held) // 2]), statistics.median(held[-len(held) // 6:])
        seen = {"errors": run.errors, "least": min(each), "most": max(each), "warm_kb": warm, "last_kb": last}
        record["ways"][name] = [{**run.figures(), **seen}]
        if run.errors:
            print(f"{name}: {run.wrong[:2000]}", file=sys.stderr)
    yield "mixed", record


def with_disk(stage, options, ways, measure):
    """The rounds of all ways, and beside each round what an fdatasync takes on the audit log's disk."""
    disk = []
    def each(way):
        if way.name == "direct":
            disk.append(fdatasync_us(stage.folder / "config/audit"))
        return measure(way)
    return {"ways": rounds(options, ways, each), "fdatasync": disk}


def times(options):
    """Runs of a statement in one session that take about as long as one run of pgbench."""
    return max(1, options.seconds * 2)


def middle(rounds_of_way, field):
    return statistics.median(each[field] for each in rounds_of_way)


WORKS = {
    "pass": select_by_key, "select": select_by_email, "insert": insert, "scan": scan, "copy": copy, "connect": connect,
    "idle": idle, "slow-reader": slow_reader, "mixed": mixed,
}
