-- A user whose e-mail address was stored in the folded form, with an internationalized domain.
insert into users (id, attempt_status, name, username, phone, email, password_hash, created_at)
values ('019a0000-0000-7000-8000-000000000016', null, 'Folded', 'folded', null, 'user@пример.рф', 'argon2id$none', '2025-01-01 00:00Z');
insert into identifiers (value, kind, user_id)
values ('folded', 'username', '019a0000-0000-7000-8000-000000000016'),
       ('user@пример.рф', 'email', '019a0000-0000-7000-8000-000000000016');
