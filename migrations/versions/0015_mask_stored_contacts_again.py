"""Request that all stored contacts are masked again, by the current rules.

The watermark is the `seq` of the last attempt that has been masked again. The running service advances it in batches
(services/upkeep.py).
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
