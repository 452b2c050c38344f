"""Add a function useradd() that stores an e-mail address and, as identifier, its folded form.

The former function, with one argument less, stays for the previous version. Rows are not changed: every stored address
equals its folded form (ADR 3).
"""

from pathlib import Path

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parents[1] / "functions"
ARGUMENTS = """
    uuid, timestamptz, integer, text, text, text, jsonb, text, text, text, text, bytea, bytea, text,
    text, text, text, text, text, text, date, text, boolean
"""


def upgrade() -> None:
    op.execute((FUNCTIONS / "useradd_4.sql").read_text())


def downgrade() -> None:
    op.execute(f"drop function useradd({ARGUMENTS})")
