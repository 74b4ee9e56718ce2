#!/bin/sh
# Run once by the postgres image, on a new data volume: the role that the service connects as. Its rights come from
# `pos-sync migrate --grant-to pos_sync`.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$SERVICE_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE pos_sync LOGIN PASSWORD :'password';
SQL
