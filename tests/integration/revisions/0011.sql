-- A user who outlived the attempt that created him.
insert into users (id, attempt_status, name, username, phone, password_hash, created_at)
values ('019a0000-0000-7000-8000-000000000011', null, 'Old', 'old', '+79991234511', 'argon2id$none', '2025-01-01 00:00Z');
insert into identifiers (value, kind, user_id)
values ('old', 'username', '019a0000-0000-7000-8000-000000000011'),
       ('+79991234511', 'phone', '019a0000-0000-7000-8000-000000000011');
