"""Masks contact data in stored attempts again, after an upgrade changed the rules."""

from typing import Any

from sqlalchemy import Connection, select, text, update

from project.domain.masking import mask, mask_field, mask_request_id, mask_user_agent
from project.domain.records import to_json
from project.models import Attempt, Watermark

WATERMARK = "masks"
FINISHED = 2**63 - 1
"""Value of the watermark when no more attempts have to be masked."""
_COLUMNS = ("method", "phone_masked", "email_masked", "sent", "user_agent", "client_request_id")
_IS_STALE = text(
    "(username_shown, name_shown) is distinct from"
    " (shown_login(username), shown_name(sent ->> 'name', errors::text)) as is_stale"
)
_UPDATE = text("""
    update attempts a
       set method = r.method, phone_masked = r.phone_masked, email_masked = r.email_masked, sent = r.sent,
           user_agent = r.user_agent, client_request_id = r.client_request_id,
           username_shown = shown_login(a.username), name_shown = shown_name(a.sent ->> 'name', a.errors::text)
      from jsonb_to_recordset(cast(:rows as jsonb)) as r (
           seq bigint, method text, phone_masked text, email_masked text, sent jsonb, user_agent text,
           client_request_id text)
     where a.seq = r.seq
""")


def mask_next_attempts(connection: Connection, region: str, limit: int, *, wait: bool = False) -> int:
    """Mask the next `limit` attempts after the watermark; advance the watermark.

    The watermark is the sequence number of the last attempt that is masked by the current rules. Returns the number of
    attempts read: 0 after the last attempt and, unless `wait` is set, if another process is masking. Can be interrupted
    and repeated.
    """
    watermark = connection.execute(
        select(Watermark.seq).where(Watermark.name == WATERMARK).with_for_update(skip_locked=not wait)
    ).scalar_one_or_none()
    if watermark is None or watermark == FINISHED:
        return 0
    columns = (Attempt.seq, _IS_STALE, *(getattr(Attempt, name) for name in _COLUMNS))
    rows = connection.execute(select(*columns).where(Attempt.seq > watermark).order_by(Attempt.seq).limit(limit)).all()
    if not rows:
        return 0
    stored = [dict(row._mapping) for row in rows]
    changed = [new for row in stored if (new := _mask_row(row, region)) != row or row["is_stale"]]
    if changed:
        connection.execute(_UPDATE, {"rows": f"[{','.join(map(to_json, changed))}]"})
    set_watermark(connection, stored[-1]["seq"])
    return len(stored)


def set_watermark(connection: Connection, seq: int) -> None:
    """Set the sequence number of the last masked attempt: 0 to start again, FINISHED to end."""
    connection.execute(update(Watermark).where(Watermark.name == WATERMARK).values(seq=seq))


def _mask_row(row: dict[str, Any], region: str) -> dict[str, Any]:
    contacts = {"phone_masked": "phone", "email_masked": "email"}
    contacts = {column: row[column] and mask_field(name, row[column], region) for column, name in contacts.items()}
    sent = {name: mask_field(name, row["sent"][name], region) for name in ("phone", "email") if name in row["sent"]}
    return (
        row
        | contacts
        | {
            "method": mask(row["method"]),
            "sent": row["sent"] | sent,
            "user_agent": mask_user_agent(row["user_agent"]),
            "client_request_id": row["client_request_id"] and mask_request_id(row["client_request_id"]),
        }
    )
