"""SQLAlchemy as its users use it: a schema made and reflected, a unit of work, bulk inserts, joins, and a migration."""

import datetime
import decimal
import sys

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert as upsert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(120), unique=True)
    name: Mapped[str | None] = mapped_column(sa.Text)
    born: Mapped[datetime.date | None]
    salary: Mapped[decimal.Decimal | None] = mapped_column(sa.Numeric(12, 2), index=True)
    profile: Mapped[dict | None] = mapped_column(JSONB)
    phone: Mapped[str | None] = mapped_column(sa.String(40))
    active: Mapped[bool] = mapped_column(default=True)
    visits: Mapped[list["Visit"]] = relationship(back_populates="person", order_by="Visit.id", cascade="all, delete-orphan")

    def __repr__(self):
        return f"{self.id} {self.email} {self.name} {self.born} {self.salary} {self.profile} {self.phone} {self.active}"


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"))
    email: Mapped[str | None] = mapped_column(sa.String(120))
    page: Mapped[str]
    person: Mapped[Person] = relationship(back_populates="visits")


def reflected(engine):
    inspector = sa.inspect(engine)
    for table in sorted(inspector.get_table_names(schema="public")):
        for column in inspector.get_columns(table):
            print(table, column["name"], repr(column["type"]), column["nullable"], column["default"])
        print(table, inspector.get_pk_constraint(table), inspector.get_foreign_keys(table))
        print(table, sorted(map(str, inspector.get_indexes(table))), inspector.get_unique_constraints(table))


def written(engine):
    with Session(engine) as session:
        session.add_all(
            Person(
                email=f"p{n}@x.org",
                name=f"Person {n}",
                born=datetime.date(1990, 1, 1 + n),
                salary=decimal.Decimal("1000.50") + n,
                profile={"n": n, "tags": ["a", None]},
                phone=f"+49 {n}",
                visits=[Visit(page=f"/{n}/{k}", email=f"p{n}@x.org") for k in range(2)],
            )
            for n in range(1, 6)
        )
        session.add(Person(email="none@x.org"))
        session.commit()
        person = session.scalars(sa.select(Person).where(Person.email == "p2@x.org")).one()
        print(person, person.visits[1].page)
        person.name, person.profile = "Zoë", {"changed": True}
        person.visits.pop(0)
        session.commit()
        print(session.get(Person, person.id, populate_existing=True))
        session.delete(session.scalars(sa.select(Person).where(Person.email.in_(["p3@x.org", "nobody"]))).one())
        session.commit()
        try:
            session.add(Person(email="p1@x.org"))
            session.commit()
        except sa.exc.IntegrityError as error:
            print(type(error).__name__, error.orig.sqlstate)
            session.rollback()


def read(engine):
    with Session(engine) as session:
        people = sa.select(Person).order_by(Person.id)
        for person in session.scalars(people.options(selectinload(Person.visits))):
            print(person, [visit.email for visit in person.visits])
        for person in session.scalars(people.options(joinedload(Person.visits))).unique():
            print(person.email, len(person.visits))
        for row in session.execute(sa.select(Person.email, Visit.page).join(Visit.person).order_by(Visit.id)):
            print(tuple(row))
        joined = sa.select(Visit.id).join(Person, Person.email == Visit.email).order_by(Visit.id)
        print(session.scalars(joined).all())
        print(session.scalar(sa.select(sa.func.count()).select_from(Person).where(Person.name.is_(None))))
        print(session.scalar(sa.select(sa.func.count(sa.distinct(Visit.email)))))
        print(session.scalar(sa.select(sa.exists().where(Person.salary == decimal.Decimal("1001.50")))))
        many = sa.select(Visit.email, sa.func.count()).group_by(Visit.email).having(sa.func.count() > 1)
        print(sorted(map(tuple, session.execute(many)), key=str))
        print(session.scalars(sa.select(Person.id).where(Person.email == sa.any_(sa.literal(["p1@x.org"], sa.ARRAY(sa.String))))).all())
        print(session.scalars(sa.select(Person.phone).where(Person.phone.like("+49 %")).order_by(Person.phone)).all())
        print(session.execute(sa.select(Person.email).where(Person.id == 1).with_for_update(of=Person)).scalar())
        latest = sa.select(Visit.person_id, sa.func.max(Visit.id).label("last")).group_by(Visit.person_id).subquery()
        print([tuple(row) for row in session.execute(sa.select(Person.email, latest.c.last).join(latest, latest.c.person_id == Person.id).order_by(Person.id))])
        with session.connection().execution_options(yield_per=2).execute(people) as rows:
            print([row.email for row in rows])


def bulk(engine):
    with engine.begin() as connection:
        rows = [{"email": f"b{n}@x.org", "name": f"B {n}", "salary": n, "active": n % 2 == 0} for n in range(30)]
        made = connection.execute(sa.insert(Person).returning(Person.email, Person.salary, sort_by_parameter_order=True), rows)
        print([tuple(row) for row in made][-3:])
        statement = upsert(Person).values(email="b1@x.org", name="again", active=True)
        statement = statement.on_conflict_do_update(index_elements=["email"], set_={"name": statement.excluded.name})
        print(connection.execute(statement.returning(Person.name)).scalar())
        connection.execute(sa.update(Person).where(Person.email == "b2@x.org").values(salary=None, profile={"x": [1]}))
        print(connection.execute(sa.update(Person).where(Person.id > 10).values(name="same")).rowcount)
        connection.execute(
            sa.update(Person).where(Person.email == sa.bindparam("who")).values(name=sa.bindparam("what")),
            [{"who": f"b{n}@x.org", "what": f"C {n}"} for n in range(3)],
        )
        copied = sa.insert(Visit).from_select(["person_id", "email", "page"], sa.select(Person.id, Person.email, sa.literal("/copied")).where(Person.email == "b2@x.org"))
        print(connection.execute(copied).rowcount)
        print([tuple(row) for row in connection.execute(sa.select(Person.name, Person.salary, Person.profile).where(Person.email.in_(["b0@x.org", "b2@x.org"])).order_by(Person.id))])
        print(connection.execute(sa.delete(Person).where(Person.email.not_in(["b2@x.org"]), Person.active.is_(False))).rowcount)
        savepoint = connection.begin_nested()
        connection.execute(sa.delete(Visit))
        savepoint.rollback()
        print(connection.execute(sa.select(sa.func.count()).select_from(Visit)).scalar())


def main(url):
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
    reflected(engine)
    written(engine)
    read(engine)
    bulk(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE person ADD COLUMN remark VARCHAR(20)")
        connection.exec_driver_sql("CREATE INDEX visit_email ON visit (email)")
    metadata = sa.MetaData()
    metadata.reflect(engine, schema=None)
    print([f"{table.name}.{column.name} {column.type!r}" for table in metadata.sorted_tables for column in table.columns])
    person = metadata.tables["person"]
    with engine.begin() as connection:
        connection.execute(person.update().where(person.c.email == "p1@x.org").values(remark="seen"))
        print(connection.execute(sa.select(person).where(person.c.remark == "seen")).mappings().one()["email"])
    Base.metadata.drop_all(engine)
    print(sa.inspect(engine).get_table_names(schema="public"))
    Base.metadata.create_all(engine)


main(sys.argv[1])
