"""Let the function that decides an attempt do less: four statements for a created user.

What clashed is looked up only when something did, and of a created user nothing is returned that was not sent. A
second run after a repeat (`replayed`) whose COMMIT was not confirmed gives the credentials again.
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
