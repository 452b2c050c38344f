#!/bin/sh
# Create the secrets of compose.yaml in the directory `secrets` beside it; existing ones stay. Keep a copy elsewhere: without
# password_secret no issued password works. The certificate is for trials only: replace it with yours.
set -eu
cd "$(dirname "$0")"
umask 077

mkdir -p secrets
cd secrets
for name in postgres_password app_password owner_password secret_key password_secret; do
    [ -e "$name" ] || openssl rand -hex 32 >"$name"
done
at=172.31.251.10/useradd
[ -e database_url ] || echo "postgresql://useradd_app:$(cat app_password)@$at" >database_url
[ -e migrations_database_url ] || echo "postgresql://useradd_owner:$(cat owner_password)@$at" >migrations_database_url
if [ ! -e certificate.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=${USERADD_HOST:-users.example.org}" -keyout key.part -out certificate.part 2>/dev/null
    cat certificate.part key.part >certificate.pem
    rm certificate.part key.part
fi
# Compose mounts them with these modes: the containers' users must read them. The directory itself is closed to others.
chmod 0444 ./*
