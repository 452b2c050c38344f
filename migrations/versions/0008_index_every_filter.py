"""Add indexes for the filters of the results page, so that only the shown rows are read.

Indexes are built concurrently, outside a transaction. The remains of an interrupted build are dropped first. The build
waits for older transactions but blocks no writers, so it needs no lock_timeout.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NEW = {
    "attempts_status_code_id_idx": "attempts (status, code, id)",
    "attempts_username_id_idx": "attempts (username, id)",
    "attempts_client_request_id_idx": "attempts (client_request_id) where client_request_id is not null",
}
OLD = {
    "attempts_code_id_idx": "attempts (code, id) where status <> 201",
    "attempts_status_id_idx": "attempts (status, id) where status <> 201",
    "attempts_username_idx": "attempts (username)",
}


def upgrade() -> None:
    _replace(OLD, NEW)


def downgrade() -> None:
    _replace(NEW, OLD)


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        for name, columns in new.items():
            op.execute(f"drop index concurrently if exists {name}")
            op.execute(f"create index concurrently {name} on {columns}")
        for name in old:
            op.execute(f"drop index concurrently if exists {name}")
        op.execute("set lock_timeout = '200ms'")
