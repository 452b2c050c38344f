"""Create tables of imports: files that administrators upload, and their rows."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table imports (
            id uuid not null,
            created_at timestamptz not null default now(),
            created_by uuid not null,
            file_name text not null,
            content bytea,
            ignore_unknown boolean not null,
            state text not null default 'uploaded',
            error jsonb,
            heads text[] not null default '{}',
            fields text[] not null default '{}',
            notes jsonb not null default '[]',
            kid text,
            claimed_until timestamptz,
            finished_at timestamptz,
            credentials_at timestamptz,
            constraint imports_pkey primary key (id),
            constraint imports_state_check check (state in ('uploaded', 'checked', 'running', 'done', 'failed'))
        )
    """)
    op.execute("""
        create table import_rows (
            import_id uuid not null,
            number integer not null,
            cells text[],
            body jsonb,
            fingerprint bytea,
            outcome text,
            refusal jsonb,
            user_id uuid,
            kid text,
            constraint import_rows_pkey primary key (import_id, number),
            constraint import_rows_import_id_fkey foreign key (import_id) references imports (id) on delete cascade,
            constraint import_rows_outcome_check check (outcome in ('created', 'existing', 'refused'))
        )
    """)


def downgrade() -> None:
    op.execute("drop table import_rows")
    op.execute("drop table imports")
