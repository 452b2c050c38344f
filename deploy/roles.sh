#!/bin/sh
# Create the two roles of roles.sql in a new database and set their passwords: the PostgreSQL image in compose.yaml runs
# this once, when it creates the database.
set -eu

psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set app="$(cat /run/secrets/app_password)" --set owner="$(cat /run/secrets/owner_password)" \
    --file /usr/local/share/roles.sql --file - <<'SQL'
alter role useradd_app password :'app';
alter role useradd_owner password :'owner';
SQL
