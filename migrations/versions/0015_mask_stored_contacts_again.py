"""Have the service mask stored contacts again, by the current rules, from the first attempt on.

The watermark is the last attempt that is done; the service advances it in batches while it runs (services/upkeep.py).
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("insert into watermarks (name, seq) values ('masks', 0)")


def downgrade() -> None:
    op.execute("delete from watermarks where name = 'masks'")
