#!/bin/sh
# Makes the secrets of compose.yaml in the folder `secrets` beside it, once: what is there stays. Keep a copy elsewhere:
# without password_secret no issued password opens any more. The certificate is one for trying out; put yours in its place.
set -eu
cd "$(dirname "$0")"
umask 077

mkdir -p secrets
cd secrets
[ -e postgres_password ] || openssl rand -hex 24 >postgres_password
[ -e database_url ] || printf 'postgresql://useradd:%s@172.31.251.10/useradd\n' "$(cat postgres_password)" >database_url
for name in secret_key password_secret; do
    [ -e "$name" ] || openssl rand -hex 32 >"$name"
done
if [ ! -e certificate.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=${USERADD_HOST:-users.example.org}" -keyout key.part -out certificate.part 2>/dev/null
    cat certificate.part key.part >certificate.pem
    rm certificate.part key.part
fi
# Compose mounts them as they are: the users inside have to read them, and only who may enter this folder can.
chmod 0444 ./*
