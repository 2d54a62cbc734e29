"""The tables, each twice: `…_plain`, and `…_sealed` with the same rows, which only pgveil can have written.

pgbench can make numbers and no text, but it gives them as parameters without a type, which a text column takes as text: so contacts'
addresses, which are looked up by value, are strings of sixteen digits.
"""
PEOPLE = "id bigint PRIMARY KEY, email text, name text, card text, note text, amount integer"
TABLES = {
    "people": PEOPLE,
    "copied": PEOPLE.replace(" PRIMARY KEY", ""),
    "contacts": "id bigint PRIMARY KEY, email text, name text, card text, note text",
    "arrivals": "id bigint PRIMARY KEY, email text, name text, card text, note text",
    "accounts": "aid integer PRIMARY KEY, bid integer, abalance integer, email text, name text",
    "tellers": "tid integer PRIMARY KEY, bid integer, tbalance integer",
    "branches": "bid integer PRIMARY KEY, bbalance integer",
    "history": "tid integer, bid integer, aid integer, delta integer, email text, name text",
}
TAGGED = {f"{table}_sealed": [name for name in ("email", "name", "card") if f"{name} text" in columns]
          for table, columns in TABLES.items() if "text" in columns}
CONTACTS = 10_000
EMAIL = 4_000_000_000_000_000
BRANCHES, TELLERS, ACCOUNTS = 100, 1_000, 10_000


def rows_of(people):
    """Each table's first rows, as COPY reads them."""
    return {
        "people": (f"{i}\tperson{i}@example.com\tPerson {i}\t4111111111{i:06}\tn{i}\t{i % 1000}" for i in range(1, people + 1)),
        "contacts": (f"{i}\t{EMAIL + i}\tPerson {i}\t4111111111{i:06}\tn{i}" for i in range(1, CONTACTS + 1)),
        "accounts": (f"{i}\t{i % BRANCHES + 1}\t0\t{EMAIL + i}\tPerson {i}" for i in range(1, ACCOUNTS + 1)),
        "tellers": (f"{i}\t{i % BRANCHES + 1}\t0" for i in range(1, TELLERS + 1)),
        "branches": (f"{i}\t0" for i in range(1, BRANCHES + 1)),
    }


def load(stage, people):
    """Makes and fills them all. Returns the file with the people, which COPY is measured with."""
    rows = rows_of(people)
    for table, columns in TABLES.items():
        file = stage.memory / f"{table}.txt"
        file.write_text("".join(f"{row}\n" for row in rows.get(table, ())))
        for way in (stage.way("direct"), stage.way("sealed")):
            stage.psql(way, f"CREATE TABLE {table}_{way.twin} ({columns});\n\\copy {table}_{way.twin} FROM '{file}'\n")
    for way in (stage.way("direct"), stage.way("sealed")):
        stage.psql(way, f"CREATE INDEX ON contacts_{way.twin} (email); CREATE INDEX ON accounts_{way.twin} (email);")
    stage.admin("CREATE SEQUENCE ids; GRANT ALL ON ids TO shop; GRANT SELECT ON people_sealed, contacts_sealed TO desk;")
    stage.admin("VACUUM ANALYZE;")
    check(stage)
    return stage.memory / "people.txt"


def check(stage):
    """That what will be timed is what it is called."""
    shown = lambda way, twin: stage.psql(stage.way(way), f"SELECT email, name, card FROM people_{twin} WHERE id = 7").strip()
    clear = shown("direct", "plain")
    masked, stored = shown("masked", "sealed"), shown("direct", "sealed")
    if shown("sealed", "sealed") != clear or "*" not in masked or masked == clear or not stored.startswith("\\x"):
        raise AssertionError(f"the twins are not what they should be: {clear} {masked} {stored}")
