"""What an application does with psycopg 3, unchanged: python psycopg_test.py URL

It expects of the URL what PostgreSQL gives, so it passes against PostgreSQL itself, and through pgveil with the columns
public.customers.email (deterministic), .card (randomized) and .joined tagged, as a user who may read and write them
in clear. Needs a database without the tables that it makes. Exits with 1 at the first difference.
"""

import asyncio
import datetime
import sys
import threading

import psycopg
from psycopg.rows import dict_row

URL = sys.argv[1]
TEXT, DATE = 25, 1082


def create(conn):
    conn.execute(
        """create table customers (
            id integer generated always as identity primary key,
            email text unique, card text, joined date, note text)"""
    )
    conn.execute("create table visits (id integer, page text)")
    conn.commit()


def parameters_in_text_and_binary(conn):
    cursor = conn.cursor()
    day = datetime.date(2024, 2, 29)
    for how in ("%s", "%t", "%b"):
        cursor.execute(
            f"insert into customers (email, card, joined, note) values ({how}, {how}, {how}, {how}) returning email, card, joined",
            (f"a{how[1]}@example.com", "4111 1111 1111 1111", day, "plain"),
        )
        assert cursor.fetchone() == (f"a{how[1]}@example.com", "4111 1111 1111 1111", day)
    for binary in (False, True):
        rows = conn.cursor(binary=binary).execute("select email, card, joined, note from customers order by id").fetchall()
        assert [row[0] for row in rows] == ["as@example.com", "at@example.com", "ab@example.com"], rows
        assert all(row[1:] == ("4111 1111 1111 1111", day, "plain") for row in rows), rows
    conn.commit()


def described_types_are_the_logical_ones(conn):
    cursor = conn.execute("select email, joined, note, count(*) over () from customers limit 0")
    assert [column.type_code for column in cursor.description][:3] == [TEXT, DATE, TEXT], cursor.description
    assert [column.name for column in cursor.description][:3] == ["email", "joined", "note"]


def odd_values(conn):
    values = ["", " ", "O'Reilly \\ \"x\"", "ä€😀", "x" * 500, None]
    for value in values:
        row = conn.execute("insert into customers (card) values (%s) returning card, card is null", (value,)).fetchone()
        assert row == (value, value is None), row
    found = conn.execute("select card from customers where note is null order by id").fetchall()
    assert [card for (card,) in found] == values
    conn.execute("delete from customers where note is null")
    conn.commit()


def equality(conn):
    def emails(condition, *arguments):
        rows = conn.execute(f"select email from customers where {condition} order by id", arguments).fetchall()
        return [email for (email,) in rows]

    assert emails("email = %s", "at@example.com") == ["at@example.com"]
    assert emails("email = 'at@example.com'") == ["at@example.com"]
    assert emails("email in (%s, %s)", "at@example.com", "nobody") == ["at@example.com"]
    assert emails("email = any(%s)", ["at@example.com", "ab@example.com"]) == ["at@example.com", "ab@example.com"]
    assert emails("email <> %s and email is not null", "at@example.com") == ["as@example.com", "ab@example.com"]
    groups = conn.execute("select email, count(*) from customers group by email having email = %s", ("as@example.com",)).fetchall()
    assert groups == [("as@example.com", 1)], groups
    conn.commit()


def updates_and_upserts(conn):
    cursor = conn.execute("update customers set card = %s where email = %s returning card", ("5555", "as@example.com"))
    assert cursor.fetchall() == [("5555",)]
    upsert = """insert into customers (email, card) values (%s, %s)
        on conflict (email) do update set card = excluded.card returning card"""
    assert conn.execute(upsert, ("as@example.com", "6666")).fetchone() == ("6666",)
    assert conn.execute("select card from customers where email = 'as@example.com'").fetchone() == ("6666",)
    conn.commit()


def errors_are_postgresqls(conn):
    try:
        conn.execute("insert into customers (email) values ('as@example.com')")
        raise AssertionError("a duplicate was taken")
    except psycopg.errors.UniqueViolation as error:
        assert error.diag.severity == "ERROR"
    try:
        conn.execute("select 1")
        raise AssertionError("the transaction is aborted")
    except psycopg.errors.InFailedSqlTransaction:
        conn.rollback()
    try:
        conn.execute("insert into customers (joined) values ('2024-02-30'::date)")
        raise AssertionError("there is no such day")
    except psycopg.errors.DatetimeFieldOverflow:
        conn.rollback()
    try:
        conn.execute("select nothing from customers")
        raise AssertionError("there is no such column")
    except psycopg.errors.UndefinedColumn:
        conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)
    conn.commit()


def transactions(conn):
    count = lambda: conn.execute("select count(*) from customers").fetchone()[0]
    before = count()
    conn.commit()
    with conn.transaction():
        conn.execute("insert into customers (email) values ('outer@example.com')")
        try:
            with conn.transaction():
                conn.execute("insert into customers (email) values ('inner@example.com')")
                raise RuntimeError
        except RuntimeError:
            pass
        assert count() == before + 1
    conn.execute("delete from customers where email = 'outer@example.com'")
    conn.rollback()
    assert count() == before + 1
    conn.execute("delete from customers where email = 'outer@example.com'")
    conn.commit()


def prepared_statements(conn):
    for turn in range(8):
        row = conn.execute("select card from customers where email = %s", ("at@example.com",), prepare=True).fetchone()
        assert row == ("4111 1111 1111 1111",), (turn, row)
    conn.commit()
    assert conn.execute("select count(*) from pg_prepared_statements").fetchone()[0] >= 1
    conn.execute("deallocate all")
    assert conn.execute("select card from customers where email = %s", ("at@example.com",)).fetchone()
    conn.commit()


def pipelines(conn):
    with conn.pipeline() as pipeline:
        inserted = [
            conn.execute("insert into customers (email, card) values (%s, %s) returning card", (f"p{n}@example.com", str(n)))
            for n in range(50)
        ]
        selected = conn.execute("select count(*) from customers where card is not null")
        pipeline.sync()
        assert [cursor.fetchone()[0] for cursor in inserted] == [str(n) for n in range(50)]
        assert selected.fetchone()[0] >= 50
    conn.commit()
    try:
        with conn.pipeline() as pipeline:
            conn.execute("insert into customers (email) values ('lost@example.com')")
            conn.execute("select 1 / %s", (0,))
            conn.execute("select card from customers where email = 'p7@example.com'")
            pipeline.sync()
        raise AssertionError("a division by zero passed")
    except psycopg.errors.DivisionByZero:
        conn.rollback()
    assert conn.execute("select count(*) from customers where email = 'lost@example.com'").fetchone() == (0,)
    assert conn.execute("select card from customers where email = 'p7@example.com'").fetchone() == ("7",)
    conn.cursor().executemany("delete from customers where email = %s", [(f"p{n}@example.com",) for n in range(50)])
    conn.commit()


def server_side_cursors(conn):
    conn.cursor().executemany("insert into visits (id, page) values (%s, %s)", [(n, f"/c/{n}") for n in range(120)])
    with conn.cursor(name="many", row_factory=dict_row) as cursor:
        cursor.execute("select page from visits where page like %s order by id", ("/c/%",))
        first = cursor.fetchmany(7)
        assert [row["page"] for row in first] == [f"/c/{n}" for n in range(7)]
        cursor.itersize = 20
        assert len(list(cursor)) == 113
    conn.execute("delete from visits")
    conn.commit()


def copy_of_untagged_tables(conn):
    cursor = conn.cursor()
    with cursor.copy("copy visits (id, page) from stdin") as copy:
        for n in range(1000):
            copy.write_row((n, f"/page/{n}\twith a tab" if n % 2 else None))
    with cursor.copy("copy visits to stdout (format binary)") as copy:
        copy.set_types(["int4", "text"])
        rows = list(copy.rows())
    assert len(rows) == 1000 and rows[3] == (3, "/page/3\twith a tab") and rows[2] == (2, None)
    conn.commit()
    try:
        with cursor.copy("copy visits from stdin") as copy:
            copy.write("not a number\tx\n")
        raise AssertionError("a wrong row was taken")
    except psycopg.errors.InvalidTextRepresentation:
        conn.rollback()
    try:
        with cursor.copy("copy visits from stdin") as copy:
            copy.write_row((1, "x"))
            raise RuntimeError("the application gave up")
    except RuntimeError:
        conn.rollback()
    assert conn.execute("select count(*) from visits").fetchone() == (1000,)
    conn.commit()


def several_statements_at_once(conn):
    cursor = conn.execute("select 1; select email from customers where email = 'at@example.com'; select 3")
    assert cursor.fetchone() == (1,)
    assert cursor.nextset() and cursor.fetchone() == ("at@example.com",)
    assert cursor.nextset() and cursor.fetchone() == (3,)
    conn.commit()


def settings_and_notices(conn):
    notices = []
    conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    conn.execute("do $$ begin raise notice 'hello'; end $$")
    assert notices == ["hello"], notices
    conn.execute("set time zone 'Asia/Tokyo'")
    assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"
    conn.execute("reset time zone")
    conn.commit()
    assert conn.info.server_version >= 130000 and conn.info.encoding == "utf-8"


def notifications(conn):
    with psycopg.connect(URL, autocommit=True) as listener:
        listener.execute("listen news")
        conn.execute("notify news, 'today'")
        conn.commit()
        assert [notify.payload for notify in listener.notifies(timeout=10, stop_after=1)] == ["today"]


def cancelling(conn):
    timer = threading.Timer(0.3, conn.cancel)
    timer.start()
    try:
        conn.execute("select pg_sleep(30)")
        raise AssertionError("it was not cancelled")
    except psycopg.errors.QueryCanceled:
        conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)
    conn.commit()


def many_at_once(_):
    async def one(number):
        async with await psycopg.AsyncConnection.connect(URL) as conn:
            for _ in range(10):
                cursor = await conn.execute("select email, %s::int from customers where email = 'at@example.com'", (number,))
                assert await cursor.fetchone() == ("at@example.com", number)

    async def all_of_them():
        await asyncio.gather(*(one(number) for number in range(12)))

    asyncio.run(all_of_them())


def wrong_passwords(_):
    try:
        psycopg.connect(URL, password="not this one")
        raise AssertionError("a wrong password was taken")
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error), error


STEPS = [
    create,
    parameters_in_text_and_binary,
    described_types_are_the_logical_ones,
    odd_values,
    equality,
    updates_and_upserts,
    errors_are_postgresqls,
    transactions,
    prepared_statements,
    pipelines,
    server_side_cursors,
    copy_of_untagged_tables,
    several_statements_at_once,
    settings_and_notices,
    notifications,
    cancelling,
    many_at_once,
    wrong_passwords,
]

for step in STEPS:
    print(step.__name__, flush=True)
    with psycopg.connect(URL) as connection:
        step(connection)
print(f"{len(STEPS)} steps passed")
