-- An entry of the audit log.
insert into audit_log (id, actor_kind, action, target)
values ('019a0000-0000-7000-8000-000000000019', 'command', 'user_blocked', 'anna');
