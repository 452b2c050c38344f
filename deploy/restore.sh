#!/bin/sh
# Restore a backup of backup.sh into an empty database while the service is stopped:
#   PGHOST=... PGUSER=... PGPASSWORD=... PGDATABASE=useradd DATA_DIR=/var/lib/useradd restore.sh /var/backups/useradd/2026-...
# First, as a superuser: createdb --owner=useradd_owner useradd && psql --dbname=useradd --file=roles.sql
# Keeps existing files of DATA_DIR, which are newer. Afterwards start the service: it drains the spool.
set -eu
umask 077

from=${1:?"restore.sh FOLDER: one backup"}
: "${PGDATABASE:?the name of the database}" "${DATA_DIR:?the folder of the service}"
tables=$(psql -XAtqc "select count(*) from pg_tables where schemaname = 'public'")
if [ "$tables" != 0 ]; then
    echo "restore.sh: database $PGDATABASE has tables; restore into an empty one" >&2
    exit 1
fi
for name in secret_key password_secret; do
    if [ -e "$DATA_DIR/$name" ] && tar -tf "$from/data.tar" "$name" >/dev/null 2>&1 &&
        ! tar -xOf "$from/data.tar" "$name" | cmp -s - "$DATA_DIR/$name"; then
        echo "restore.sh: $DATA_DIR/$name is not that of the backup, whose passwords need theirs; move it away first" >&2
        exit 1
    fi
done

pg_restore --no-owner --exit-on-error --single-transaction --dbname="$PGDATABASE" "$from/database.dump"
mkdir -p "$DATA_DIR"
tar -xf "$from/data.tar" -C "$DATA_DIR" --skip-old-files
echo "restored $from; now start the service, then: flask doctor"
