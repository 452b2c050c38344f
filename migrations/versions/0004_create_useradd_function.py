"""Create the function that decides one attempt in one round trip.

Claim the attempt's id, then the idempotency key, then the identifiers; insert the user, or say what clashed. Called
again with an id that it knows, it answers with the first outcome: after a COMMIT whose confirmation was lost, the
same call is the arbiter. It writes even then: the first COMMIT may have been waiting for a synchronous standby when
the server crashed, and only a COMMIT that has written waits for it again. Every lock is taken in the same order, so
that two calls cannot wait for each other.
"""

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
