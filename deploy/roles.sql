-- Two roles: useradd_owner owns and migrates the tables, useradd_app serves and can only read and write rows.
--
-- Run this in the database of the service as a superuser (without one: as a role that may create roles and owns the tables), before
-- or after the first `flask db upgrade`. It is idempotent:
--
--     psql -d useradd -f deploy/roles.sql
--     psql -d useradd -c '\password useradd_owner' -c '\password useradd_app'
--
-- Then DATABASE_URL names useradd_app and MIGRATIONS_DATABASE_URL names useradd_owner.

do $$
begin
    if not exists (select from pg_roles where rolname = 'useradd_owner') then
        create role useradd_owner login;
    end if;
    if not exists (select from pg_roles where rolname = 'useradd_app') then
        create role useradd_app login;
    end if;
    execute format('revoke create, temporary on database %I from public', current_database());
    execute format('grant connect on database %I to useradd_owner, useradd_app', current_database());
    if not pg_has_role('useradd_owner', 'member') then
        execute format('grant useradd_owner to %I', current_user);
    end if;
end
$$;

revoke all on schema public from public;
grant usage, create on schema public to useradd_owner;
grant usage on schema public to useradd_app;

-- Change the owner of existing objects, except those of extensions.
do $$
declare
    thing text;
begin
    for thing in
        select format('table %s', c.oid::regclass) from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
           and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
        union all
        select format('type %s', t.oid::regtype) from pg_type t left join pg_class c on c.oid = t.typrelid
         where t.typnamespace = 'public'::regnamespace and (t.typtype in ('e', 'd') or c.relkind = 'c')
           and not exists (select from pg_depend d where d.objid = t.oid and d.deptype = 'e')
        union all
        select format('function %s', p.oid::regprocedure) from pg_proc p
         where p.pronamespace = 'public'::regnamespace
           and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
    loop
        execute format('alter %s owner to useradd_owner', thing);
    end loop;
end
$$;

-- Privileges of the service on existing tables and on those that later migrations create.
grant select, insert, update, delete on all tables in schema public to useradd_app;
grant usage on all sequences in schema public to useradd_app;
alter default privileges for role useradd_owner in schema public grant select, insert, update, delete on tables to useradd_app;
alter default privileges for role useradd_owner in schema public grant usage on sequences to useradd_app;
