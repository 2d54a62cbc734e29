"""The stage: a private PostgreSQL, and in front of it the bare relay, PgBouncer and pgveil, each on a port of its own.

PostgreSQL waits for no disk, so that it hides nobody's cost, unless a work asks (`durable`). pgveil runs twice over the same keys: as
shipped, and with its audit log in memory, which tells our own cost from the disk's.
"""
import contextlib, glob, json, os, pathlib, pwd, shutil, signal, socket, subprocess, tempfile, time
from dataclasses import dataclass

from .twins import TAGGED

ROOT = pathlib.Path(__file__).resolve().parents[2]
# How each domain is sealed, what the desk is shown, and what it may do.
DOMAINS = {
    "email": ("deterministic", "mask:email", '["read", "compare"]'),
    "name": ("randomized", "mask:partial", '["read"]'),
    "card": ("randomized", "mask:card", '["read"]'),
}
DURABLE = ("fsync", "synchronous_commit")


@dataclass(frozen=True)
class Way:
    """One way to the data: through which process (none: directly), as whom, and to which of the twins."""
    name: str
    port: int
    user: str = "shop"
    twin: str = "plain"
    pid: int = 0


class Stage:
    def __init__(self, options):
        self.pgveil = binary(options.pgveil, ["target/release/pgveil"], "cargo build --release")
        self.floor = binary(options.floor, ["target/release/deps/floor-*", "target/*/release/deps/floor-*"],
                            "cargo bench --bench floor --no-run")
        self.pgbouncer = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self.pgbouncer or fail("pgbouncer was not found", "apt install pgbouncer")
        self.bin, self.connections = pg_bin(), options.connections
        self.proxies, self.running, self.server = {}, [], None

    def __enter__(self):
        with contextlib.ExitStack() as opening:
            self.folder = folder(opening, None)
            self.memory = folder(opening, "/dev/shm" if os.path.isdir("/dev/shm") else None)
            opening.callback(self.stop_all)
            self.start_postgres()
            self.prepare_pgveil()
            self.restart()
            self.kept = opening.pop_all()
        return self

    def __exit__(self, *_):
        self.kept.close()

    def way(self, name):
        """The way of a name: direct, floor, pgbouncer; pass (pgveil, plain twin), sealed, masked, log-in-memory (sealed)."""
        if name == "direct":
            return Way(name, self.port)
        port, pid = self.proxies[name if name in self.proxies else "pgveil"]
        twin = "sealed" if name in ("sealed", "masked", "log-in-memory") else "plain"
        return Way(name, port, "desk" if name == "masked" else "shop", twin, pid)

    def url(self, way, database="shop"):
        return f"postgresql://{way.user}:{way.user}@127.0.0.1:{way.port}/{database}"

    def psql(self, way, sql, database="shop"):
        """Runs statements, and returns their rows, unaligned."""
        return subprocess.run([f"{self.bin}/psql", "-qXAt", "-v", "ON_ERROR_STOP=1", self.url(way, database)], input=sql, text=True,
                              check=True, stdout=subprocess.PIPE).stdout

    def admin(self, sql, database="shop"):
        return self.psql(Way("admin", self.port, "postgres"), sql, database)

    @contextlib.contextmanager
    def durable(self):
        """PostgreSQL as it is shipped: a commit is on disk before it is told."""
        self.settle({name: "on" for name in DURABLE})
        try:
            yield
        finally:
            self.settle({name: "off" for name in DURABLE})

    def settle(self, settings):
        changes = "".join(f"ALTER SYSTEM SET {name} = {value};" for name, value in settings.items())
        self.admin(f"{changes} SELECT pg_reload_conf(); CHECKPOINT;")
        time.sleep(0.2)

    def restart(self):
        """Proxies that have no past, so that what they hold is what they need; and no backends of those before."""
        self.stop(self.running)
        for _ in range(300):
            if int(self.admin("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) == 1:
                break
            time.sleep(0.1)
        self.proxies = {
            "floor": self.start_floor(),
            "pgbouncer": self.start_pgbouncer(),
            "pgveil": self.start_pgveil(self.folder / "config"),
            "log-in-memory": self.start_pgveil(self.memory / "config"),
        }

    # What is started.

    def start_postgres(self):
        data, password = owned(self.folder / "data"), self.folder / "password"
        password.write_text("postgres\n")
        password.chmod(0o644)
        subprocess.run([f"{self.bin}/initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N",
                        f"--pwfile={password}"], check=True, stdout=subprocess.DEVNULL, cwd="/", **as_owner())
        self.port = free_port()
        with open(data / "postgresql.conf", "a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                           f"max_connections = {self.connections + 200}\nshared_buffers = 256MB\nmax_wal_size = 8GB\n"
                           "autovacuum = off\n" + "".join(f"{name} = off\n" for name in DURABLE))
        self.server = subprocess.Popen([f"{self.bin}/postgres", "-D", data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       cwd="/", **as_owner())
        wait_for(self.port)
        for _ in range(100):
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.admin("CREATE DATABASE shop", "postgres")
            time.sleep(0.1)
        fail("PostgreSQL does not answer")

    def start_floor(self):
        port = free_port()
        return self.started([self.floor, f"127.0.0.1:{port}", f"127.0.0.1:{self.port}", "1"], port)

    def start_pgbouncer(self):
        """Session mode; passwords and pool sizes so that nobody waits, all else as Debian ships it."""
        place, port, most = owned(self.folder / "bouncer"), free_port(), self.connections + 200
        (place / "users").write_text('"shop" "shop"\n')
        (place / "ini").write_text(
            f"[databases]\nshop = host=127.0.0.1 port={self.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n"
            f"auth_type=scram-sha-256\nauth_file={place}/users\npool_mode=session\nunix_socket_dir=\nlogfile=/dev/null\n"
            f"max_client_conn={most}\ndefault_pool_size={most}\n")
        for name in ("users", "ini"):
            (place / name).chmod(0o644)
        return self.started([self.pgbouncer, str(place / "ini")], port, **as_owner())

    def started(self, command, port, **options):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **options)
        self.running.append(child)
        wait_for(port)
        return port, child.pid

    def prepare_pgveil(self):
        """One configuration, twice: only where the audit log lies differs."""
        config, admin = self.folder / "config", self.url(Way("admin", self.port, "postgres"))
        config.mkdir()
        (config / "proxy.toml").write_text(proxy_toml(self.port, self.connections))
        (config / "tags.toml").write_text(tags_toml())
        (config / "policy.toml").write_text(policy_toml())
        command = lambda place, *words: subprocess.run([self.pgveil, *words, "--config", place, "--database", admin], check=True,
                                                       stdout=subprocess.DEVNULL)
        command(config, "init")
        for user in ("shop", "desk"):
            secret = self.folder / f"{user}.password"
            secret.write_text(f"{user}\n")
            secret.chmod(0o600)
            command(config, "users", "add", user, "--password-file", secret)
        self.admin("GRANT ALL ON SCHEMA public TO shop")
        shutil.copytree(config, self.memory / "config", ignore=shutil.ignore_patterns("audit"))
        command(self.memory / "config", "init")

    def start_pgveil(self, config):
        child = subprocess.Popen([self.pgveil, "serve", "--config", config], stderr=subprocess.PIPE, text=True,
                                 env={**os.environ, "PGVEIL_LOG": "info"})
        self.running.append(child)
        for line in child.stderr:
            fields = json.loads(line)["fields"] if line.startswith("{") else {}
            if fields.get("message") == "pgveil is ready":
                # Somebody must read on, or its log would fill the pipe.
                self.running.append(subprocess.Popen(["cat"], stdin=child.stderr, stdout=subprocess.DEVNULL))
                return int(fields["address"].rpartition(":")[2]), child.pid
        fail("pgveil did not start")

    def stop(self, children):
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        children.clear()

    def stop_all(self):
        self.stop(self.running)
        if self.server:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(timeout=60)


def proxy_toml(port, connections):
    return ('[listen]\naddress = "127.0.0.1:0"\ntls = { mode = "off" }\n' f"connections_max = {connections + 200}\n"
            f'[database]\naddress = "127.0.0.1:{port}"\ntls = {{ mode = "off" }}\nservice_user = "pgveil"\n'
            'service_password_file = "service.password"\nservice_database = "shop"\n'
            '[keys]\nprovider = "file"\npath = "keyring.json"\nmaster_key_file = "master.key"\n[audit]\npath = "audit"\n')


def tags_toml():
    return "[columns]\n" + "".join(f'"public.{table}.{column}" = "{column}"\n' for table, columns in TAGGED.items() for column in columns)


def policy_toml():
    text = '[roles]\napp = ["shop"]\ndesk = ["desk"]\n'
    for name, (seal, _, _) in DOMAINS.items():
        text += f'[domain.{name}]\nlabel = "pii.{name}"\ntype = "text"\nseal = "{seal}"\n'
    text += '[[rule]]\nname = "app"\nroles = ["app"]\nlabels = ["*"]\nallow = ["read", "compare", "write"]\nshow = "clear"\n'
    for name, (_, mask, allow) in DOMAINS.items():
        text += f'[[rule]]\nname = "desk-{name}"\nroles = ["desk"]\nlabels = ["pii.{name}"]\nallow = {allow}\nshow = "{mask}"\n'
    return text


class Broken(Exception):
    """Something did not do what it was asked; what is said is for people."""


def fail(error, hint=""):
    raise Broken(f"error: {error}" + (f"\nhint: {hint}" if hint else ""))


def binary(given, patterns, hint):
    """The newest executable that a pattern finds; Cargo keeps old ones beside it, and files that are none."""
    found = [given] if given else [path for pattern in patterns for path in glob.glob(str(ROOT / pattern))]
    found = [os.path.abspath(path) for path in found if os.path.isfile(path) and os.access(path, os.X_OK)]
    return max(found, key=os.path.getmtime, default=None) or fail(f"{given or patterns[0]} was not found", hint)


def pg_bin():
    for place in filter(None, [os.environ.get("PGVEIL_PG_BIN"), *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]):
        if all(os.path.exists(f"{place}/{name}") for name in ("initdb", "postgres", "psql", "pgbench")):
            return place
    fail("initdb, postgres, psql and pgbench were not found", "install PostgreSQL, or name its folder in PGVEIL_PG_BIN")


def folder(opening, where):
    path = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-compare-", dir=where))
    opening.callback(shutil.rmtree, path, ignore_errors=True)
    path.chmod(0o755)
    return path


def owner():
    """PostgreSQL and PgBouncer do not run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def as_owner():
    user = owner()
    return {} if os.geteuid() != 0 else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def owned(path):
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, owner().pw_uid, owner().pw_gid)
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    fail(f"nothing listens on port {port}")
