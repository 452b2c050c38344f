"""Create API keys, and indexes of the few users who are administrators or blocked: pages list them, and the last
administrator must stay."""

from alembic import op

revision = "0010"
down_revision = "0006"
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
    op.execute("create index users_admins_idx on users (id) where is_admin")
    op.execute("create index users_blocked_idx on users (id) where not is_active")


def downgrade() -> None:
    op.execute("drop index users_blocked_idx")
    op.execute("drop index users_admins_idx")
    op.execute("drop table api_keys")
