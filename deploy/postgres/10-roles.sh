#!/bin/sh
# Makes the role that owns the schema, the role of the service, and the database, each where it is missing, and leaves what is
# there as it is. The postgres image runs this once, on a new data volume; docs/deploying.md says when to run it by hand.
# The rights of pos_sync come from `pos-sync migrate --grant-to pos_sync`.
set -eu
# The passwords come from the environment: other users of the machine see arguments.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv service_password SERVICE_PASSWORD
SELECT format('CREATE ROLE pos_owner LOGIN PASSWORD %L', :'owner_password')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pos_owner') \gexec
SELECT format('CREATE ROLE pos_sync LOGIN PASSWORD %L', :'service_password')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pos_sync') \gexec
SELECT 'CREATE DATABASE pos OWNER pos_owner ENCODING ''UTF8'' TEMPLATE template0'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'pos') \gexec
SQL
