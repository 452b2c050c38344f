"""Set the role of existing administrators, and validate the constraint on roles."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("update users set role = 'administrator' where is_admin and role <> 'administrator'")
    op.execute("alter table users validate constraint users_role_check")


def downgrade() -> None:
    op.execute("""
        alter table users
            drop constraint users_role_check,
            add constraint users_role_check check (role in ('user', 'auditor', 'administrator')) not valid
    """)
