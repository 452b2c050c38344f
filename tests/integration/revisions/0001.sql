-- Attempts: one that created a user, one that was refused, one from the spool that failed.
insert into attempts (id, received_at, status, answered, code, via, method, duration_ms, username, phone_masked, errors,
                      sent, language, client_address, user_agent, key_hash)
values
    ('019a0000-0000-7000-8000-000000000001', '2026-02-03 04:05:06Z', 201, 201, 'created', 'direct', 'POST', 1,
     'petrov.ivan', '+7•••4567', '[]', '{"name": "Иван Петров"}', 'ru', '192.0.2.1', 'curl/8',
     '\xc812e1edb64417d6090dcfbaf16c21cd8e8665c04396e1edb472fecfb2797c6a'),
    ('019a0000-0000-7000-8000-000000000002', '2026-02-03 04:05:07Z', 422, 422, 'invalid_phone', 'direct', 'POST', 1,
     'anna', '12', '[{"field": "phone", "code": "invalid_phone", "params": {}}]', '{}', 'en', '192.0.2.1', 'curl/8', null),
    ('019a0000-0000-7000-8000-000000000003', '2026-02-03 04:05:08Z', 503, 503, 'database_unavailable', 'spool', 'POST', 1,
     'boris', null, '[]', '{}', 'ru', '192.0.2.2', 'curl/8', null);
