-- Decides attempts as useradd() would one by one, with one statement and one commit for all of them (ADR 33).
-- Returns their decisions in the order of `p_attempts`, an array of objects with the arguments of useradd().
-- The attempts must have no ID, key or identifier in common: each is decided as if it were alone.
-- Every call takes its locks in the same order (attempt IDs, idempotency keys, identifiers; each of these sorted), which
-- is that of useradd(), so neither can deadlock with the other.
create function useradd_many(p_attempts jsonb) returns setof useradd_decision language plpgsql as $$
declare
    fresh uuid[];
    undecided uuid[];
    keyed uuid[];
    losers uuid[];
    claimed integer;
    wanted integer;
begin
    -- 1. Claim the attempt IDs before anything else. A COMMIT that was not confirmed is followed by a second call with
    -- the same IDs. This insert then waits until the first transaction has ended: if that committed, the ID is taken and
    -- its outcome stands; if not, this call starts from nothing. A SELECT could not tell: it finds no row while the
    -- first transaction is undecided. The rows say "created" at once, so that a success needs no update.
    with inserted as (
        insert into attempts (
            id, received_at, status, answered, code, method, duration_ms, username, phone_masked, email_masked,
            sent, language, client_address, user_agent, client_request_id, key_hash,
            username_shown, name_shown
        )
        select id, received_at, 201, 201, 'created', method, duration_ms, username, phone_masked, email_masked,
               sent, language, client_address, user_agent, client_request_id, decode(key_hash, 'hex'),
               shown_login(username), shown_name(sent ->> 'name', '[]')
          from jsonb_to_recordset(p_attempts) as attempt (
            id uuid, received_at timestamptz, method text, duration_ms integer, username text, phone_masked text,
            email_masked text, sent jsonb, language text, client_address text, user_agent text, client_request_id text,
            key_hash text
          )
         order by id
        on conflict (id) do nothing
        returning id
    )
    select array_agg(id) into fresh from inserted;
    undecided := fresh;
    if cardinality(fresh) is distinct from jsonb_array_length(p_attempts) then
        -- Keep the recorded outcomes. The update changes no value, but a COMMIT that wrote something waits for the
        -- synchronous standby, and with it for the first transaction, which may have survived a crash of the primary
        -- without being replicated. A plain SELECT would confirm a user that a failover can still lose (ADR 13).
        -- A replay has to return the user of the earlier attempt, which steps 2 and 3 look up by the key.
        with known as (
            update attempts set answered = answered
             where id in (select id from jsonb_to_recordset(p_attempts) as attempt (id uuid))
               and id <> all (coalesce(fresh, '{}'))
            returning id, code
        )
        select fresh || array_agg(id) filter (where code = 'replayed') into undecided from known;
    end if;

    -- 2. Claim the idempotency keys before the identifiers: a repeated request must find its key, not clash with the
    -- identifiers of the user that it created itself. Concurrent requests with the same key wait here for the first.
    -- Expired keys that the upkeep has not deleted yet are taken over. The clock is PostgreSQL's.
    with inserted as (
        insert into idempotency_keys as k (key_hash, fingerprint, user_id, kid, expires_at)
        select decode(key_hash, 'hex'), decode(fingerprint, 'hex'), id, kid, now() + interval '24 hours'
          from jsonb_to_recordset(p_attempts) as attempt (id uuid, key_hash text, fingerprint text, kid text)
         where id = any (undecided)
         order by 1
        on conflict (key_hash) do update
           set fingerprint = excluded.fingerprint, user_id = excluded.user_id, kid = excluded.kid,
               expires_at = excluded.expires_at
         where k.expires_at <= now()
        returning user_id
    )
    select array_agg(user_id) into keyed from inserted;

    -- 3. The other keys are in use and still valid. ON CONFLICT DO UPDATE has locked their rows although WHERE is false,
    -- so they cannot be deleted before they are read here. Another content under the same key: only a repeat of the same
    -- request may learn anything about its user. A password that was changed: the one derived from the key is no longer
    -- valid and must not be returned. Otherwise nothing is created, so `status` is 200, and the client receives the 201
    -- of the first response again.
    if cardinality(keyed) is distinct from cardinality(undecided) then
        update attempts a
           set status = d.status, code = d.code, answered = case when d.status = 200 then 201 else d.status end
          from (
            select attempt.id, case reason when 'idempotency_key_reused' then 422 when 'credentials_changed' then 409
                   else 200 end, reason
              from jsonb_to_recordset(p_attempts) as attempt (id uuid, key_hash text, fingerprint text)
              join idempotency_keys k on k.key_hash = decode(attempt.key_hash, 'hex')
              left join users u on u.id = k.user_id
             cross join lateral (
                select case when k.fingerprint <> decode(attempt.fingerprint, 'hex') then 'idempotency_key_reused'
                       when u.password_changed_at is not null then 'credentials_changed' else 'replayed' end
             ) r (reason)
             where attempt.id = any (undecided) and attempt.id <> all (coalesce(keyed, '{}'))
          ) d (id, status, code)
         where a.id = d.id;
    end if;

    -- 4. Claim all identifiers. The primary key of their table alone enforces uniqueness (ADR 3); the insert waits for
    -- claims of undecided transactions. A taken identifier is skipped and noticed by counting. An exception would report
    -- one conflict at a time and undo the whole group.
    with named as (
        select w.value, w.kind, attempt.id
          from jsonb_to_recordset(p_attempts) as attempt (id uuid, email_folded text, phone text, username_folded text)
         cross join lateral (
            values ('email', email_folded), ('phone', phone), ('username', username_folded)
         ) w (kind, value)
         where w.value is not null and attempt.id = any (keyed)
    ), inserted as (
        insert into identifiers (value, kind, user_id)
        select value, kind, id from named order by kind, value collate "C"
        on conflict do nothing
        returning user_id
    )
    select (select count(*) from inserted), (select count(*) from named) into claimed, wanted;

    -- 5. Something is taken. Name every conflict, in the order of the form; the first one is the reason. Looked up only
    -- now, because most calls create all users.
    if claimed < wanted then
        with taken as (
            select attempt.id, w.kind, w.place
              from jsonb_to_recordset(p_attempts) as attempt (id uuid, email_folded text, phone text, username_folded text)
             cross join lateral (
                values (1, 'username', username_folded), (2, 'phone', phone), (3, 'email', email_folded)
             ) w (place, kind, value)
             where w.value is not null and attempt.id = any (keyed)
               and not exists (
                select from identifiers i where i.value = w.value and i.kind = w.kind and i.user_id = attempt.id)
        ), refused as (
            update attempts a
               set status = 409, answered = 409, code = reasons[1],
                   errors = (select jsonb_agg(jsonb_build_object('field', kind, 'code', kind || '_taken'))
                               from unnest(kinds) kind)
              from (select id, array_agg(kind order by place), array_agg(kind || '_taken' order by place)
                      from taken group by id) t (id, kinds, reasons)
             where a.id = t.id
            returning a.id
        )
        select array_agg(id) into losers from refused;
        -- Release only what the losers have claimed: hence `user_id`, which has no index, beside the primary key. A
        -- rollback would release it, too, but lose the attempts, which must stay recorded.
        delete from identifiers i
         using jsonb_to_recordset(p_attempts) as attempt (id uuid, email_folded text, phone text, username_folded text)
         where attempt.id = any (losers) and i.user_id = attempt.id
           and (i.value, i.kind) in ((attempt.email_folded, 'email'), (attempt.phone, 'phone'),
                                     (attempt.username_folded, 'username'));
        -- Release their keys, too: they have created nothing, and a client may send a corrected request with its key.
        delete from idempotency_keys
         where key_hash in (select decode(key_hash, 'hex')
                              from jsonb_to_recordset(p_attempts) as attempt (id uuid, key_hash text)
                             where id = any (losers));
    end if;

    -- 6. The users come last: their foreign key (id, attempt_status = 201) references the attempts of step 1, so that no
    -- user can exist without an attempt that says "created".
    insert into users (
        id, name, username, phone, email, birth_date, password_hash, is_admin, created_at
    )
    select id, name, username, phone, email, birth_date, password_hash, is_admin, received_at
      from jsonb_to_recordset(p_attempts) as attempt (
        id uuid, name text, username text, phone text, email text, birth_date date, password_hash text,
        is_admin boolean, received_at timestamptz
      )
     where id = any (keyed) and id <> all (coalesce(losers, '{}'));
    get diagnostics claimed = row_count;

    -- 7. All decisions are in the attempts by now; most calls need not read them.
    if claimed = jsonb_array_length(p_attempts) then
        return query select 201, 'created'::text, null::text[], null::text, null::uuid, null::text, null::text,
                            null::text, null::text, null::date, null::timestamptz
                       from generate_series(1, claimed);
        return;
    end if;
    return query
        select a.status, a.code, array(select e ->> 'field' from jsonb_array_elements(a.errors) e), k.kid,
               u.id, u.name, u.username, u.phone, u.email, u.birth_date, u.created_at
          from jsonb_array_elements(p_attempts) with ordinality as attempt (arguments, place)
          join attempts a on a.id = (arguments ->> 'id')::uuid
          left join idempotency_keys k on a.code = 'replayed' and k.key_hash = a.key_hash
          left join users u on u.id = k.user_id
         order by place;
end
$$;
