"""Django as its users use it: migrations made and applied, the ORM, the admin, a second migration, inspectdb.

Each step is a process of its own, as with manage.py; the project is made in a temporary folder."""

import os
import pathlib
import subprocess
import sys
import tempfile

MODELS = '''
from django.db import models

class Person(models.Model):
    email = models.CharField(max_length=120, unique=True)
    name = models.TextField(null=True)
    born = models.DateField(null=True)
    salary = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    profile = models.JSONField(null=True)
    phone = models.CharField(max_length=40, null=True)
    active = models.BooleanField(default=True)
    note = models.TextField(blank=True, default="")
    class Meta:
        db_table = "person"

class Visit(models.Model):
    person = models.ForeignKey(Person, models.CASCADE, related_name="visits")
    email = models.CharField(max_length=120, null=True, db_index=True)
    page = models.CharField(max_length=50)
    class Meta:
        db_table = "visit"
        constraints = [models.UniqueConstraint(fields=["person", "page"], name="once")]
'''

ADMIN = '''
from django.contrib import admin
from .models import Person, Visit

@admin.register(Person)
class PersonAdmin(admin.ModelAdmin):
    list_display = ["email", "name", "born", "active"]
    list_filter = ["active"]
    search_fields = ["note", "email__exact"]
    ordering = ["id"]
'''


def setup(url):
    import django
    from django.conf import settings
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    settings.configure(
        DEBUG=False,
        SECRET_KEY="of a test",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        ROOT_URLCONF="people.urls",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
            "django.contrib.messages", "people",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[{
            "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            "OPTIONS": {"context_processors": [
                "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]},
        }],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": parts.username,
            "PASSWORD": parts.password, "HOST": parts.hostname, "PORT": parts.port,
        }},
    )
    django.setup()


def manage(*arguments):
    from django.core.management import call_command
    call_command(*arguments, verbosity=0)


def use():
    import datetime
    from decimal import Decimal
    from django.db import IntegrityError, transaction
    from django.db.models import Case, Count, Exists, F, OuterRef, Q, Value, When
    from people.models import Person, Visit

    show = lambda p: (p.id, p.email, p.name, p.born, p.salary, p.profile, p.phone, p.active, p.note)
    for n in range(1, 6):
        person = Person.objects.create(
            email=f"p{n}@x.org", name=f"Person {n}", born=datetime.date(1990, 1, n), salary=Decimal("1000.50") + n,
            profile={"n": n}, phone=f"+49 {n}", note=f"note {n}",
        )
        Visit.objects.bulk_create(Visit(person=person, email=person.email, page=f"/{k}") for k in range(2))
    people = Person.objects.order_by("id")
    print(show(Person.objects.get(email="p2@x.org")))
    print(list(people.filter(email__in=["p1@x.org", "p3@x.org"]).values_list("id", "email")))
    print(list(people.exclude(email="p1@x.org").values_list("salary", flat=True)))
    print(Person.objects.filter(salary=Decimal("1001.50")).exists(), Person.objects.filter(name__isnull=True).count())
    print([(p.email, [v.page for v in p.visits.all()]) for p in people.prefetch_related("visits")])
    print([(v.id, v.person.email) for v in Visit.objects.select_related("person").order_by("id")])
    print(sorted(Visit.objects.values("email").annotate(n=Count("id")).values_list("email", "n")))
    print([p.visited for p in people.annotate(visited=Exists(Visit.objects.filter(email=OuterRef("email"), page="/1")))])
    print([p.n for p in people.annotate(n=Count("visits", filter=Q(visits__page="/1")))])
    changed = list(people[:3])
    for person in changed:
        person.name, person.salary, person.note = person.name + "!", None, "changed"
    print(Person.objects.bulk_update(changed, ["name", "salary", "note"]))
    print([show(p) for p in people])
    Person.objects.bulk_create(
        [Person(email="p1@x.org", name="again"), Person(email="new@x.org", name="New")],
        update_conflicts=True, unique_fields=["email"], update_fields=["name"],
    )
    person, made = Person.objects.get_or_create(email="new@x.org", defaults={"name": "other"})
    print(made, person.name, Person.objects.update_or_create(email="new@x.org", defaults={"name": "other"})[1])
    print(Person.objects.filter(email="new@x.org").update(name=None, phone=F("note")))
    print(Person.objects.filter(id=1).update(name=Case(When(active=True, then=Value("yes")), default=Value("no"))))
    print(Person.objects.get(id=1).name)
    try:
        with transaction.atomic():
            Person.objects.create(email="p1@x.org")
    except IntegrityError as error:
        print(type(error).__name__, error.__cause__.sqlstate)
    with transaction.atomic():
        print(Person.objects.select_for_update(of=("self",), no_key=True).get(email="p4@x.org").id)
    print(Person.objects.filter(phone__startswith="+49").order_by("phone").values_list("phone", flat=True).first())
    print(Person.objects.get(email="p5@x.org").delete())
    print([p.email for p in people.iterator(chunk_size=2)])


def admin():
    from django.contrib.auth.models import User
    from django.test import Client
    from people.models import Person

    User.objects.create_superuser("root", password="root")
    client = Client()
    print(client.post("/admin/login/?next=/admin/", {"username": "root", "password": "root"}).status_code)
    listed = client.get("/admin/people/person/").content.decode()
    print("p2@x.org" in listed, "Person 4" in listed)
    found = client.get("/admin/people/person/?q=p2@x.org").content.decode()
    print("p2@x.org" in found, "p4@x.org" in found)
    person = Person.objects.get(email="p2@x.org")
    page = f"/admin/people/person/{person.id}/change/"
    print("p2@x.org" in client.get(page).content.decode())
    values = {"email": "two@x.org", "name": "Two", "born": "1991-02-03", "salary": "5", "profile": "{}", "phone": "0", "note": "n"}
    print(client.post(page, values).status_code)
    person.refresh_from_db()
    print(person.email, person.name, person.born, person.salary, person.profile, person.active)
    print(client.post("/admin/people/person/", {"action": "delete_selected", "_selected_action": [person.id], "post": "yes"}).status_code)
    print(Person.objects.filter(email="two@x.org").exists())


def step(name, url):
    setup(url)
    if name == "migrate":
        manage("makemigrations", "people", "--no-input")
        manage("migrate", "--no-input")
    elif name == "inspect":
        from django.core.management import call_command
        call_command("inspectdb", "person", "visit")
    elif name == "back":
        manage("migrate", "people", "zero")
        manage("migrate", "people")
    else:
        {"use": use, "admin": admin}[name]()


def main(url):
    with tempfile.TemporaryDirectory() as folder:
        app = pathlib.Path(folder) / "people"
        (app / "migrations").mkdir(parents=True)
        for file, text in {
            "__init__.py": "", "migrations/__init__.py": "", "models.py": MODELS, "admin.py": ADMIN,
            "urls.py": "from django.contrib import admin\nfrom django.urls import path\nurlpatterns = [path('admin/', admin.site.urls)]\n",
        }.items():
            (app / file).write_text(text)
        second = MODELS.replace('    note = models', '    remark = models.CharField(max_length=20, null=True, db_index=True)\n    note = models')
        second = second.replace("page = models.CharField(max_length=50)", "page = models.CharField(max_length=200)")
        second = second.replace('db_table = "visit"', 'db_table = "visit"\n        indexes = [models.Index(fields=["email", "page"], name="where_who")]')
        environment = dict(os.environ, PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE="1")
        for name in ["migrate", "inspect", "use", "admin", "second", "migrate", "inspect", "back"]:
            if name == "second":
                (app / "models.py").write_text(second)
                continue
            print(f"-- {name}", flush=True)
            subprocess.run([sys.executable, __file__, name, url], check=True, env=environment)


if len(sys.argv) == 3:
    step(sys.argv[1], sys.argv[2])
else:
    main(sys.argv[1])
