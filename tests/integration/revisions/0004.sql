-- A user whom the function of this version created.
select useradd(
    '019a0000-0000-7000-8000-000000000004', '2026-02-03 05:00:00Z', 1, 'POST', null, 'o***@e***.org', '{}', 'en',
    '192.0.2.3', 'curl/8', null, '\x04', '\x04', 'a7bc93a7', 'Olga', 'olga', 'olga', null, 'olga@example.org', null,
    'hmac-sha256$a7bc93a7$MDEyMzQ1Njc4OWFiY2RlZg==$qNz6K1H/4UMenmibvNuZIV135w6dO7PbRG7YZ90rJCE=', true);
