"""Create the audit log of actions of administrators, downloads and imports."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table audit_log (
            id uuid not null,
            at timestamptz not null default now(),
            actor_kind text not null,
            actor_id uuid,
            actor text,
            action text not null,
            target_id uuid,
            target text,
            details jsonb not null default '{}',
            constraint audit_log_pkey primary key (id),
            constraint audit_log_actor_kind_check check (actor_kind in ('user', 'api_key', 'command'))
        )
    """)
    op.execute("create index audit_log_at_idx on audit_log (at)")
    op.execute("create index audit_log_actor_id_id_idx on audit_log (actor_id, id)")
    op.execute("create index audit_log_target_id_id_idx on audit_log (target_id, id)")


def downgrade() -> None:
    op.execute("drop table audit_log")
