-- Superseded by useradd_2.sql (migration 0006), which documents each step. Kept for migrating up from, and down to,
-- revision 0004.
create function useradd(
    p_id uuid, p_received_at timestamptz, p_duration_ms integer, p_method text,
    p_phone_masked text, p_email_masked text, p_sent jsonb, p_language text,
    p_client_address text, p_user_agent text, p_client_request_id text,
    p_key_hash bytea, p_fingerprint bytea, p_kid text,
    p_name text, p_username text, p_username_folded text, p_phone text, p_email text, p_birth_date date,
    p_password_hash text, p_is_admin boolean
) returns useradd_decision language plpgsql as $$
declare
    decision useradd_decision;
    known idempotency_keys;
    claimed text[];
begin
    insert into attempts (
        id, received_at, status, answered, code, method, duration_ms, username, phone_masked, email_masked,
        sent, language, client_address, user_agent, client_request_id, key_hash
    ) values (
        p_id, p_received_at, 201, 201, 'created', p_method, p_duration_ms, p_username, p_phone_masked,
        p_email_masked, p_sent, p_language, p_client_address, p_user_agent, p_client_request_id, p_key_hash
    ) on conflict (id) do nothing;
    if not found then
        select a.status, a.code, array(select e ->> 'field' from jsonb_array_elements(a.errors) e), p_kid,
               u.id, u.name, u.username, u.phone, u.email, u.birth_date, u.created_at
          into decision
          from attempts a left join users u on u.id = a.id
         where a.id = p_id;
        update attempts set answered = answered where id = p_id;
        return decision;
    end if;

    insert into idempotency_keys as k (key_hash, fingerprint, user_id, kid, expires_at)
    values (p_key_hash, p_fingerprint, p_id, p_kid, now() + interval '24 hours')
    on conflict (key_hash) do update
       set fingerprint = excluded.fingerprint, user_id = excluded.user_id, kid = excluded.kid,
           expires_at = excluded.expires_at
     where k.expires_at <= now();
    if not found then
        select * into known from idempotency_keys where key_hash = p_key_hash;
        if known.fingerprint <> p_fingerprint then
            decision.status := 422;
            decision.code := 'idempotency_key_reused';
        elsif exists (select from users where id = known.user_id and password_changed_at is not null) then
            decision.status := 409;
            decision.code := 'credentials_changed';
        else
            select 200, 'replayed', null, known.kid,
                   u.id, u.name, u.username, u.phone, u.email, u.birth_date, u.created_at
              into decision
              from users u where u.id = known.user_id;
        end if;
        update attempts
           set status = decision.status, code = decision.code,
               answered = case when decision.status = 200 then 201 else decision.status end
         where id = p_id;
        return decision;
    end if;

    with claim as (
        insert into identifiers (value, kind, user_id)
        select w.value, w.kind, p_id
          from (values ('email', p_email), ('phone', p_phone), ('username', p_username_folded)) w (kind, value)
         where w.value is not null
         order by w.kind
        on conflict do nothing
        returning kind
    )
    select coalesce(array_agg(kind), '{}') into claimed from claim;
    select array_agg(w.kind order by w.place) into decision.clashes
      from (values (1, 'username', p_username_folded), (2, 'phone', p_phone), (3, 'email', p_email))
           w (place, kind, value)
     where w.value is not null and w.kind <> all (claimed);

    if decision.clashes is null then
        insert into users (
            id, name, username, phone, email, birth_date, password_hash, is_admin, created_at
        ) values (
            p_id, p_name, p_username, p_phone, p_email, p_birth_date, p_password_hash, p_is_admin,
            p_received_at
        );
        select 201, 'created', null, p_kid,
               p_id, p_name, p_username, p_phone, p_email, p_birth_date, p_received_at
          into decision;
        return decision;
    end if;

    delete from identifiers
     where user_id = p_id
       and (value, kind) in ((p_email, 'email'), (p_phone, 'phone'), (p_username_folded, 'username'));
    delete from idempotency_keys where key_hash = p_key_hash;
    decision.status := 409;
    decision.code := decision.clashes[1] || '_taken';
    update attempts
       set status = 409, answered = 409, code = decision.code,
           errors = (select jsonb_agg(jsonb_build_object('field', kind, 'code', kind || '_taken'))
                       from unnest(decision.clashes) kind)
     where id = p_id;
    return decision;
end
$$;
