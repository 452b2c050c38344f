"""Create idempotency keys."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table idempotency_keys (
            key_hash bytea not null,
            fingerprint bytea not null,
            user_id uuid not null,
            kid text not null,
            expires_at timestamptz not null,
            constraint idempotency_keys_pkey primary key (key_hash)
        )
    """)
    op.execute("create index idempotency_keys_expires_at_idx on idempotency_keys (expires_at)")


def downgrade() -> None:
    op.execute("drop table idempotency_keys")
