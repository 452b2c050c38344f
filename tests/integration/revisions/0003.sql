-- The key with which he was created: 0f8fad5b-d9cb-469f-a165-70867728950e.
insert into idempotency_keys (key_hash, fingerprint, user_id, kid, expires_at)
values ('\xc812e1edb64417d6090dcfbaf16c21cd8e8665c04396e1edb472fecfb2797c6a',
        '\xe5f14b8469162b9b909720a9eca6b24e1dcb52486d4a9a1071c651bb729b40a2',
        '019a0000-0000-7000-8000-000000000001', 'a7bc93a7', now() + interval '24 hours');
