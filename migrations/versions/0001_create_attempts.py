"""Create attempts: every call of /useradd, whatever its outcome."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table attempts (
            id uuid not null,
            seq bigint generated always as identity,
            received_at timestamptz not null,
            recorded_at timestamptz not null default now(),
            status integer not null,
            answered integer,
            code text not null,
            via text not null default 'direct',
            method text not null,
            duration_ms integer not null,
            username text,
            phone_masked text,
            email_masked text,
            errors jsonb not null default '[]',
            sent jsonb not null default '{}',
            language text not null,
            client_address text not null,
            user_agent text not null,
            client_request_id text,
            key_hash bytea,
            constraint attempts_pkey primary key (id),
            constraint attempts_id_status_key unique (id, status),
            constraint attempts_seq_key unique (seq),
            constraint attempts_status_check check (status = 0 or status between 100 and 599),
            constraint attempts_via_check check (via in ('direct', 'spool', 'recovered'))
        )
    """)
    op.execute("create index attempts_username_idx on attempts (username)")


def downgrade() -> None:
    op.execute("drop table attempts")
