"""Speed up useradd(): it creates a user with four statements.

Conflicts are looked up only if there are any, and the function does not return a created user. If the COMMIT of a
replay is not confirmed, a retry returns the credentials again.
"""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parents[1] / "functions"


def upgrade() -> None:
    op.execute((FUNCTIONS / "useradd_2.sql").read_text())


def downgrade() -> None:
    former = (FUNCTIONS / "useradd_1.sql").read_text()
    op.execute(former.replace("create function", "create or replace function", 1))
