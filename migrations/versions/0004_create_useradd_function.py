"""Create the SQL function useradd(), which creates a user; useradd_2.sql explains its steps."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FUNCTION = Path(__file__).parents[1] / "functions" / "useradd_1.sql"


def upgrade() -> None:
    op.execute("""
        create type useradd_decision as (
            status integer,
            code text,
            clashes text[],
            kid text,
            user_id uuid,
            name text,
            username text,
            phone text,
            email text,
            birth_date date,
            created_at timestamptz
        )
    """)
    op.execute(FUNCTION.read_text())


def downgrade() -> None:
    op.execute("drop function useradd")
    op.execute("drop type useradd_decision")
