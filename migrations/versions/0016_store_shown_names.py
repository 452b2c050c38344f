"""Store login and name of an attempt as ordinary users see them, which speeds up exports."""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parents[1] / "functions"


def upgrade() -> None:
    op.execute(_sql("shown_1"))
    op.execute("alter table attempts add column username_shown text, add column name_shown text")
    op.execute(_sql("useradd_3"))


def downgrade() -> None:
    op.execute(_sql("useradd_2"))
    op.execute("alter table attempts drop column username_shown, drop column name_shown")
    op.execute("drop function shown_login; drop function shown_name")


def _sql(name: str) -> str:
    return (FUNCTIONS / f"{name}.sql").read_text()
