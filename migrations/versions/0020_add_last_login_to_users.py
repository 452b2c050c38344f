"""Add the time of each user's last login."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table users add column last_login_at timestamptz")


def downgrade() -> None:
    op.execute("alter table users drop column last_login_at")
