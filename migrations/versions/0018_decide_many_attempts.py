"""Add useradd_many(), which creates several users. useradd() stays for the previous version."""

from pathlib import Path

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parents[1] / "functions"


def upgrade() -> None:
    op.execute((FUNCTIONS / "useradd_many_1.sql").read_text())


def downgrade() -> None:
    op.execute("drop function useradd_many")
