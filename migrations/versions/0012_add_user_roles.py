"""Add roles of users.

Triggers keep the role and `is_admin`, which the previous version reads and writes, consistent. The triggers do
not run for new ordinary users, the usual case. The next migration sets the roles of existing administrators.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table users
            add column role text not null default 'user',
            add constraint users_role_check check (role in ('user', 'auditor', 'administrator')) not valid
    """)
    op.execute("""
        create function users_sync_role() returns trigger language plpgsql as $$
        begin
            if tg_op = 'UPDATE' and new.role is distinct from old.role or new.role <> 'user' and tg_op = 'INSERT' then
                new.is_admin := new.role = 'administrator';
            elsif new.is_admin then
                new.role := 'administrator';
            elsif new.role = 'administrator' then
                new.role := 'user';
            end if;
            return new;
        end
        $$
    """)
    op.execute("""
        create trigger users_insert_role before insert on users
            for each row when (new.is_admin or new.role <> 'user') execute function users_sync_role()
    """)
    op.execute("""
        create trigger users_update_role before update on users
            for each row when (new.role is distinct from old.role or new.is_admin is distinct from old.is_admin)
            execute function users_sync_role()
    """)


def downgrade() -> None:
    op.execute("drop trigger users_update_role on users")
    op.execute("drop trigger users_insert_role on users")
    op.execute("drop function users_sync_role")
    op.execute("alter table users drop column role")
