-- Login and name as ordinary users see them, stored so that exports need not compute them. These functions mask only
-- plain forms of contact data; for a text that may contain another form they return null, and the service masks it when
-- it is shown (ADR 32).

-- Returns a login, in which many digits or an e-mail address are masked; '' without a login.
create function shown_login(p_login text) returns text language sql immutable parallel safe as $$
    select case
        when p_login is null then ''
        when p_login !~ '[^\u0001-\u003f\u0041-\u00b1\u00b4-\u00b8\u00ba-\u065f\u2010-\u2027\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]|[0-9](?:[^0-9]*[0-9]){6}'
            then p_login
        when p_login ~ '^[A-Za-z0-9._-]+$'
            then regexp_replace(p_login, '[0-9](?=.*[0-9].*[0-9])', '•', 'g')
        when p_login ~ '^[A-Za-z0-9._-][A-Za-z0-9._-]+@[A-Za-z0-9.-]+$' and p_login !~ '@.*[0-9](?:.*[0-9]){5}'
            then left(p_login, 1) || '•••@' || split_part(p_login, '@', 2)
    end
$$;

-- Returns the first word of a name and the initials of the others; '' without a name. Returns null also if the names of
-- unknown fields in p_errors have to be masked.
create function shown_name(p_name text, p_errors text) returns text language sql immutable parallel safe as $$
    select case
        when p_name ~ '[^\u0001-\u003f\u0041-\u00b1\u00b4-\u00b8\u00ba-\u065f\u2010-\u2027\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]|[0-9](?:[^0-9]*[0-9]){6}'
            then null
        when p_errors <> '[]' and p_errors ~ '[^\u0001-\u003f\u0041-\u00b1\u00b4-\u00b8\u00ba-\u065f\u2010-\u2027\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]|[0-9](?:[^0-9]*[0-9]){6}'
            then null
        else coalesce(regexp_replace(p_name, '\s+(\S)\S*', ' \1.', 'g'), '')
    end
$$;
