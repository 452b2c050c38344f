#!/bin/sh
# Create `.env` (USERADD_HOST) and the directory `secrets` for compose.yaml, both beside this file. Existing files stay.
# Keep a copy of both elsewhere: without password_secret no issued password works. The certificate is for trials only.
set -eu
cd "$(dirname "$0")"
umask 077

command -v openssl >/dev/null || { echo "secrets.sh: openssl is missing: apt install openssl" >&2; exit 1; }
[ -s .env ] || echo "USERADD_HOST=${USERADD_HOST:?"the public host name: USERADD_HOST=users.example.org $0"}" >.env
host=$(sed -n 's/^USERADD_HOST=//p' .env)

mkdir -p secrets
cd secrets
for name in postgres_password app_password owner_password secret_key password_secret; do
    # Written to a draft first, so that an interrupted run leaves no empty secret.
    [ -s "$name" ] || { openssl rand -hex 32 >draft && mv draft "$name"; }
done
at=172.31.251.10/useradd
[ -s database_url ] || echo "postgresql://useradd_app:$(cat app_password)@$at" >database_url
[ -s migrations_database_url ] || echo "postgresql://useradd_owner:$(cat owner_password)@$at" >migrations_database_url
if [ ! -s certificate.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=useradd" -addext "subjectAltName=DNS:$host" -keyout key.part -out certificate.part 2>/dev/null
    cat certificate.part key.part >draft
    mv draft certificate.pem
    rm certificate.part key.part
fi
# Compose mounts them with these modes: the containers' users must read them. The directory itself is closed to others.
chmod 0444 ./*
