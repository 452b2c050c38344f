"""Keep users after retention has deleted the attempts that created them."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table users alter attempt_status drop not null")


def downgrade() -> None:
    op.execute("alter table users alter attempt_status set not null")
