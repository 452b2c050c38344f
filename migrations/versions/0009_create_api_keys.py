"""Create API keys."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table api_keys (
            id uuid not null,
            name text not null,
            key_hash bytea not null,
            created_at timestamptz not null default now(),
            created_by uuid,
            revoked_at timestamptz,
            last_used date,
            constraint api_keys_pkey primary key (id),
            constraint api_keys_key_hash_key unique (key_hash)
        )
    """)


def downgrade() -> None:
    op.execute("drop table api_keys")
