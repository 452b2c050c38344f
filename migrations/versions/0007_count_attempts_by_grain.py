"""Count attempts by month, day, hour and quarter of an hour, with their durations.

The counts are empty again at first; the service fills them in batches.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("drop table attempt_counts")
    op.execute("""
        create table attempt_counts (
            grain text not null,
            at timestamptz not null,
            status integer not null,
            code text not null,
            number bigint not null,
            durations bigint[] not null,
            constraint attempt_counts_pkey primary key (grain, at, status, code),
            constraint attempt_counts_grain_check check (grain in ('month', 'day', 'hour', '15min'))
        )
    """)
    op.execute("update watermarks set seq = 0 where name = 'attempt_counts'")


def downgrade() -> None:
    op.execute("drop table attempt_counts")
    op.execute("""
        create table attempt_counts (
            hour timestamptz not null,
            status integer not null,
            code text not null,
            number bigint not null,
            constraint attempt_counts_pkey primary key (hour, status, code)
        )
    """)
    op.execute("update watermarks set seq = 0 where name = 'attempt_counts'")
