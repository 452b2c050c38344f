"""Index attempts by case-folded login, if the login is not in lower-case ASCII."""

from pathlib import Path

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parents[1] / "functions"
INDEX = "attempts_folded_login_id_idx"


def upgrade() -> None:
    op.execute((FUNCTIONS / "fold_login_1.sql").read_text())
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute(f"drop index concurrently if exists {INDEX}")
        op.execute(
            f"create index concurrently {INDEX} on attempts (fold_login(username), id) "
            """where username collate "C" ~ '[^a-z0-9@.+_-]'"""
        )
        op.execute("analyze attempts")  # for the selectivity of the expression
        op.execute("set lock_timeout = '200ms'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"drop index concurrently if exists {INDEX}")
    op.execute("drop function if exists fold_login")
