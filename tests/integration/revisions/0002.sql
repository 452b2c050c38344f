-- A user and his identifiers. Password: 6p2nk-zyms4-bj8un-sp49s-wabeyt.
insert into users (id, name, username, phone, password_hash, created_at)
values ('019a0000-0000-7000-8000-000000000001', 'Иван Петров', 'petrov.ivan', '+79991234567',
        'hmac-sha256$a7bc93a7$MDEyMzQ1Njc4OWFiY2RlZg==$qNz6K1H/4UMenmibvNuZIV135w6dO7PbRG7YZ90rJCE=',
        '2026-02-03 04:05:06Z');
insert into identifiers (value, kind, user_id)
values ('petrov.ivan', 'username', '019a0000-0000-7000-8000-000000000001'),
       ('+79991234567', 'phone', '019a0000-0000-7000-8000-000000000001');
