"""The works of `benches/compare` and `benches/reseal`, and what each is held to. Start at works.py; goals.py says what is wanted.

stage.py      the private PostgreSQL and the proxies in front of it
twins.py      the tables, each in plain and sealed
measure.py    clocks, memory, pgbench and psql
wire.py       a client of our own, where pgbench and psql would not do
works.py      what is done, in interleaved rounds
goals.py      figures into `goal …` lines
table.py      figures into Markdown
conversion.py what benches/reseal does
"""
