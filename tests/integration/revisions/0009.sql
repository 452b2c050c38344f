-- A key for programs: useradd_srrjdn62gxdktiyh87gqszwp9k.
insert into api_keys (id, name, key_hash, created_at)
values ('019a0000-0000-7000-8000-000000000009', 'a program',
        '\xa790e83ab9375883893146452609f016e6e7f5106efff3132fb540ce1b26b104', '2026-02-03 04:00:00Z');
