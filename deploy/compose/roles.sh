#!/bin/sh
# The two logins of deploy/production.md, when PostgreSQL starts for the first time.
set -eu
psql -q -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v serve="$SERVE_PASSWORD" -U postgres postgres <<'SQL'
CREATE ROLE mailstead LOGIN PASSWORD :'owner';
CREATE ROLE mailstead_serving NOLOGIN;
CREATE ROLE mailstead_serve LOGIN PASSWORD :'serve' IN ROLE mailstead_serving;
CREATE DATABASE mailstead OWNER mailstead ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
SQL
