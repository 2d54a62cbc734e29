#!/usr/bin/env bash
# Run once by the postgres image on an empty data directory: the user that pgveil reads the catalog with, and its right
# to make the schema `pgveil` with the sealed types. It is no superuser and reads no table.
set -euo pipefail
# The password goes in by standard input: an argument would show in the process list.
psql --set ON_ERROR_STOP=1 --quiet --username postgres --dbname "$POSTGRES_DB" <<END
\getenv password PGVEIL_SERVICE_PASSWORD
\getenv database POSTGRES_DB
set password_encryption = 'scram-sha-256';
create role pgveil login password :'password';
grant connect, create on database :"database" to pgveil;
END
