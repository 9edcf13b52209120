#!/bin/sh
# Runs once, when PostgreSQL's data directory is made: candlecast owns its database and is no superuser; it may make roles,
# for the viewers' candlecast_read. Metabase keeps its own things in a database of its own.
set -eu
psql --username "$POSTGRES_USER" --dbname postgres --set=ON_ERROR_STOP=1 \
    --set=ours="$CANDLECAST_PASSWORD" --set=metabase="$METABASE_DB_PASSWORD" <<'SQL'
CREATE ROLE candlecast LOGIN CREATEROLE PASSWORD :'ours';
CREATE DATABASE candlecast OWNER candlecast;
CREATE ROLE metabase LOGIN PASSWORD :'metabase';
CREATE DATABASE metabase OWNER metabase;
REVOKE CONNECT ON DATABASE metabase FROM PUBLIC;
\connect candlecast
ALTER SCHEMA public OWNER TO candlecast;
SQL
