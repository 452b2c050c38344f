#!/bin/sh
# Makes the two roles of roles.sql in a new database and gives them their passwords: the image of PostgreSQL in
# compose.yaml runs it once, when it makes the database.
set -eu

psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set app="$(cat /run/secrets/app_password)" --set owner="$(cat /run/secrets/owner_password)" \
    --file /usr/local/share/roles.sql --file - <<'SQL'
alter role useradd_app password :'app';
alter role useradd_owner password :'owner';
SQL
