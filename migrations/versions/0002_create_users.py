"""Create users and the identifiers that make them unique."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table users (
            id uuid not null,
            attempt_status integer not null default 201,
            name text not null,
            username text not null,
            phone text,
            email text,
            birth_date date,
            password_hash text not null,
            password_changed_at timestamptz,
            epoch integer not null default 0,
            is_active boolean not null default true,
            is_admin boolean not null default false,
            created_at timestamptz not null,
            constraint users_pkey primary key (id),
            constraint users_id_attempt_status_fkey
                foreign key (id, attempt_status) references attempts (id, status),
            constraint users_attempt_status_check check (attempt_status = 201),
            constraint users_contact_check check (phone is not null or email is not null)
        )
    """)
    op.execute("""
        create table identifiers (
            value text not null,
            kind text not null,
            user_id uuid not null,
            constraint identifiers_pkey primary key (value, kind),
            constraint identifiers_kind_check check (kind in ('username', 'phone', 'email'))
        )
    """)


def downgrade() -> None:
    op.execute("drop table identifiers")
    op.execute("drop table users")
