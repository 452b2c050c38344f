#!/bin/sh
# Back up the database and DATA_DIR (secrets, spool) into a new directory below the given one:
#   PGHOST=... PGUSER=... PGPASSWORD=... PGDATABASE=useradd DATA_DIR=/var/lib/useradd backup.sh /var/backups/useradd
# The service may run. pg_dump must not be older than the server. Deletes backups older than KEEP_DAYS (14).
# The embedded database of ./run (DATA_DIR/postgres) is not copied as files but dumped like any other.
set -eu
umask 077

to=${1:?"backup.sh FOLDER: where backups are kept"}
: "${PGDATABASE:?the name of the database}" "${DATA_DIR:?the folder of the service}"
name=$(date -u +%Y-%m-%dT%H%M%SZ)
draft=$to/.$name.part

trap 'rm -rf "$draft"' EXIT
mkdir -p "$draft"
# Files first, then tables: attempts that the service drains in between are in both, which is harmless because a restore
# records them once. In the other order they would be in neither. A spool file that vanishes while tar reads it was drained.
set -- secret_key password_secret spool
for entry; do
    shift
    [ ! -e "$DATA_DIR/$entry" ] || set -- "$@" "$entry"
done
tar -cf "$draft/data.tar" -C "$DATA_DIR" --files-from=/dev/null --warning=no-file-changed --warning=no-file-removed \
    --ignore-failed-read "$@" || [ $? -eq 1 ]
pg_dump --format=custom --no-owner --file="$draft/database.dump"
pg_restore --list "$draft/database.dump" >/dev/null
sync
mv "$draft" "$to/$name"
find "$to" -mindepth 1 -maxdepth 1 -type d -name '20*Z' -mtime "+${KEEP_DAYS:-14}" -exec rm -rf {} +
echo "$to/$name"
