-- Decides one attempt: creates the user, replays an earlier response, or records why it refuses (ADR 2).
-- Runs at READ COMMITTED, as one statement in its own transaction (ADR 18): everything below is stored or nothing is.
-- Every call takes its locks in the same order (attempt ID, idempotency key, identifiers), so calls cannot deadlock.
create or replace function useradd(
    p_id uuid, p_received_at timestamptz, p_duration_ms integer, p_method text,
    p_phone_masked text, p_email_masked text, p_sent jsonb, p_language text,
    p_client_address text, p_user_agent text, p_client_request_id text,
    p_key_hash bytea, p_fingerprint bytea, p_kid text,
    p_name text, p_username text, p_username_folded text, p_phone text, p_email text, p_email_folded text,
    p_birth_date date, p_password_hash text, p_is_admin boolean
) returns useradd_decision language plpgsql as $$
declare
    decision useradd_decision;
    known idempotency_keys;
    claimed integer;
begin
    -- 1. Claim the attempt ID before anything else. A COMMIT that was not confirmed is followed by a second call with
    -- the same ID. This insert then waits until the first transaction has ended: if that committed, the ID is taken and
    -- its outcome stands; if not, this call starts from nothing. A SELECT could not tell: it finds no row while the
    -- first transaction is undecided. The row says "created" at once, so that a success needs no update.
    insert into attempts (
        id, received_at, status, answered, code, method, duration_ms, username, phone_masked, email_masked,
        sent, language, client_address, user_agent, client_request_id, key_hash,
        username_shown, name_shown
    ) values (
        p_id, p_received_at, 201, 201, 'created', p_method, p_duration_ms, p_username, p_phone_masked,
        p_email_masked, p_sent, p_language, p_client_address, p_user_agent, p_client_request_id, p_key_hash,
        shown_login(p_username), shown_name(p_sent ->> 'name', '[]')
    ) on conflict (id) do nothing;
    if not found then
        -- Return the recorded outcome. The update changes no value, but a COMMIT that wrote something waits for the
        -- synchronous standby, and with it for the first transaction, which may have survived a crash of the primary
        -- without being replicated. A plain SELECT would confirm a user that a failover can still lose (ADR 13).
        update attempts set answered = answered where id = p_id
        returning status, code, array(select e ->> 'field' from jsonb_array_elements(errors) e)
             into decision.status, decision.code, decision.clashes;
        -- A replay has to return the user of the earlier attempt, which steps 2 and 3 look up by the key.
        if decision.code <> 'replayed' then
            return decision;
        end if;
    end if;

    -- 2. Claim the idempotency key before the identifiers: a repeated request must find its key, not clash with the
    -- identifiers of the user that it created itself. A concurrent request with the same key waits here for the first.
    -- An expired key that the upkeep has not deleted yet is taken over. The clock is PostgreSQL's.
    insert into idempotency_keys as k (key_hash, fingerprint, user_id, kid, expires_at)
    values (p_key_hash, p_fingerprint, p_id, p_kid, now() + interval '24 hours')
    on conflict (key_hash) do update
       set fingerprint = excluded.fingerprint, user_id = excluded.user_id, kid = excluded.kid,
           expires_at = excluded.expires_at
     where k.expires_at <= now();
    if not found then
        -- 3. The key is in use and still valid. ON CONFLICT DO UPDATE has locked its row although WHERE is false, so it
        -- cannot be deleted before this SELECT reads it.
        select * into known from idempotency_keys where key_hash = p_key_hash;
        if known.fingerprint <> p_fingerprint then
            -- Same key, different content: only a repeat of the same request may learn anything about its user.
            decision.status := 422;
            decision.code := 'idempotency_key_reused';
        elsif exists (select from users where id = known.user_id and password_changed_at is not null) then
            -- The password derived from the key is no longer the valid one, so it must not be returned.
            decision.status := 409;
            decision.code := 'credentials_changed';
        else
            select 200, 'replayed', null, known.kid,
                   u.id, u.name, u.username, u.phone, u.email, u.birth_date, u.created_at
              into decision
              from users u where u.id = known.user_id;
        end if;
        -- Nothing was created, so `status` is 200. The client receives the 201 of the first response again.
        update attempts
           set status = decision.status, code = decision.code,
               answered = case when decision.status = 200 then 201 else decision.status end
         where id = p_id;
        return decision;
    end if;

    -- 4. Claim all identifiers. The primary key of their table alone enforces uniqueness (ADR 3); the insert waits for
    -- claims of undecided transactions. All calls insert in the same order, by kind: otherwise two requests that each
    -- hold what the other wants would deadlock. A taken identifier is skipped and noticed by counting. An exception
    -- would report one conflict at a time and need a subtransaction.
    insert into identifiers (value, kind, user_id)
    select w.value, w.kind, p_id
      from (values ('email', p_email_folded), ('phone', p_phone), ('username', p_username_folded)) w (kind, value)
     where w.value is not null
     order by w.kind
    on conflict do nothing;
    get diagnostics claimed = row_count;
    if claimed = num_nonnulls(p_email_folded, p_phone, p_username_folded) then
        -- 5. Everything is claimed. The user comes last: its foreign key (id, attempt_status = 201) references the
        -- attempt of step 1, so that no user can exist without an attempt that says "created".
        insert into users (
            id, name, username, phone, email, birth_date, password_hash, is_admin, created_at
        ) values (
            p_id, p_name, p_username, p_phone, p_email, p_birth_date, p_password_hash, p_is_admin, p_received_at
        );
        decision.status := 201;
        decision.code := 'created';
        return decision;
    end if;

    -- 6. Something is taken. Name every conflict, in the order of the form; the first one is the reason. Looked up only
    -- now, because most calls create a user.
    select array_agg(w.kind order by w.place) into decision.clashes
      from (values (1, 'username', p_username_folded), (2, 'phone', p_phone), (3, 'email', p_email_folded))
           w (place, kind, value)
     where w.value is not null
       and not exists (select from identifiers i where i.value = w.value and i.kind = w.kind and i.user_id = p_id);
    -- Release only what this call has claimed: hence `user_id`, which has no index, beside the primary key. A rollback
    -- would release it, too, but lose the attempt, which must stay recorded.
    delete from identifiers
     where user_id = p_id
       and (value, kind) in ((p_email_folded, 'email'), (p_phone, 'phone'), (p_username_folded, 'username'));
    -- Release the key, too: it has created nothing, and the client may send a corrected request with it.
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
