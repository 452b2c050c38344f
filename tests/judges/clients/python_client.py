"""Use the client of openapi-python-client: `python_client.py ADDRESS KEY` prints results."""

import json
import sys

from generated_client import AuthenticatedClient
from generated_client.api.statistics import attempt, attempts, get_stats
from generated_client.api.users import useradd
from generated_client.models import AttemptsResultItem, Created, GetStatsPeriod, NewUser

address, key = sys.argv[1:]
ANNA = NewUser(name="Анна", username="anna.python", phone="+7 912 555-01-41", birth_date="1990-12-31")

with AuthenticatedClient(base_url=address, token=key, raise_on_unexpected_status=True) as client:
    created = useradd.sync_detailed(client=client, body=ANNA)
    conflict = useradd.sync_detailed(client=client, body=ANNA)
    invalid = useradd.sync_detailed(client=client, body=NewUser(name=" ", username="b", phone="12"))
    stats = get_stats.sync_detailed(client=client, period=GetStatsPeriod.TODAY)
    rejected = attempts.sync_detailed(client=client, result=[AttemptsResultItem.REJECTED], limit=2)
    assert isinstance(created.parsed, Created)
    one = attempt.sync_detailed(created.parsed.attempt_id, client=client)

json.dump(
    {
        "created": [created.status_code, created.parsed.login, created.parsed.user.birth_date.isoformat()],
        "conflict": [conflict.status_code, conflict.parsed.code, [error.code for error in conflict.parsed.errors]],
        "invalid": [invalid.status_code, invalid.parsed.code, sorted(error.field for error in invalid.parsed.errors)],
        "stats": [stats.status_code, stats.parsed.total, stats.parsed.period.zone],
        "attempts": [item.code for item in rejected.parsed.attempts],
        "attempt": [one.parsed.username, one.parsed.outcome],
    },
    sys.stdout,
)
