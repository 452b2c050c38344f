"""Add the first characters of API keys and the time of their last use.

The previous version still uses the column `last_used`.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table api_keys add column prefix text, add column last_used_at timestamptz")


def downgrade() -> None:
    op.execute("alter table api_keys drop column prefix, drop column last_used_at")
