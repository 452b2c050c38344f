"""Index auditors and administrators, for pages and to protect the last administrator."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute("drop index concurrently if exists users_roles_idx")
        op.execute("create index concurrently users_roles_idx on users (role, id) where role <> 'user'")
        op.execute("set lock_timeout = '200ms'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists users_roles_idx")
