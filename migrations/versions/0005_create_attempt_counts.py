"""Create pre-aggregated hourly counts of attempts, and indexes for rare codes and statuses.

The counts are empty at first; the service fills them in batches.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table attempt_counts (
            hour timestamptz not null,
            status integer not null,
            code text not null,
            number bigint not null,
            constraint attempt_counts_pkey primary key (hour, status, code)
        )
    """)
    op.execute("""
        create table watermarks (
            name text not null,
            seq bigint not null,
            constraint watermarks_pkey primary key (name)
        )
    """)
    op.execute("insert into watermarks (name, seq) values ('attempt_counts', 0)")
    op.execute("create index attempts_code_id_idx on attempts (code, id) where status <> 201")
    op.execute("create index attempts_status_id_idx on attempts (status, id) where status <> 201")


def downgrade() -> None:
    op.execute("drop index attempts_status_id_idx")
    op.execute("drop index attempts_code_id_idx")
    op.execute("drop table watermarks")
    op.execute("drop table attempt_counts")
