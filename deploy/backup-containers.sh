#!/bin/sh
# Back up the database of compose.yaml into a new file below the given directory, from a timer of the host:
#   deploy/backup-containers.sh /var/backups/useradd
# The service may run. Deletes backups older than KEEP_DAYS (14). Secrets and spool are not included: docs/deployment.md.
set -eu
umask 077

to=${1:?"backup-containers.sh FOLDER: where backups are kept"}
name=$(date -u +%Y-%m-%dT%H%M%SZ).dump
draft=$to/.$name.part
postgres() {
    # A frozen PostgreSQL must not prevent tomorrow's backup.
    timeout 6h docker compose --file "$(dirname "$0")/compose.yaml" exec -T --env PGCONNECT_TIMEOUT=30 postgres "$@"
}

trap 'rm -f "$draft"' EXIT
mkdir -p "$to"
postgres pg_dump --username=postgres --format=custom useradd </dev/null >"$draft"
postgres pg_restore --list <"$draft" >/dev/null
sync
mv "$draft" "$to/$name"
find "$to" -mindepth 1 -maxdepth 1 -type f -name '20*Z.dump' -mtime "+${KEEP_DAYS:-14}" -exec rm -f {} +
echo "$to/$name"
