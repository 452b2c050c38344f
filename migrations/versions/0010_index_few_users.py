"""Index administrators and blocked users, for pages and to protect the last administrator."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CONDITIONS = {"users_admins_idx": "is_admin", "users_blocked_idx": "not is_active"}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        for name, condition in CONDITIONS.items():
            op.execute(f"drop index concurrently if exists {name}")
            op.execute(f"create index concurrently {name} on users (id) where {condition}")
        op.execute("set lock_timeout = '200ms'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in CONDITIONS:
            op.execute(f"drop index concurrently if exists {name}")
