-- An import with a refused row.
insert into imports (id, created_by, file_name, ignore_unknown, state, heads, fields)
values ('019a0000-0000-7000-8000-000000000022', '019a0000-0000-7000-8000-000000000016', 'people.csv', false, 'done',
        array['Name', 'Login'], array['name', 'username']);
insert into import_rows (import_id, number, cells, body, outcome, refusal)
values ('019a0000-0000-7000-8000-000000000022', 2, array['A', 'a b'], '{}', 'refused',
        '{"code": "validation_failed", "variant": "", "params": {}, "errors": []}');
