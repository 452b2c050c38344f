"""Describes the state of the service in words, for /state/ and the results page."""

from dataclasses import dataclass
from datetime import datetime

from project.http.languages import to_display_zone
from project.http.translations import gettext
from project.presentation.formats import format_time, zone_label
from project.runtime import get_runtime
from project.services.status import ServiceState, get_service_state


@dataclass(frozen=True, slots=True)
class StateLine:
    """A line of /state/: a label, a text, and whether all is well in this respect."""

    label: str
    text: str
    is_well: bool


def current_state() -> ServiceState:
    """Return the state of the service now."""
    runtime = get_runtime()
    return get_service_state(runtime.database, runtime.read_database, runtime.spool)


def describe(state: ServiceState) -> str:
    """Describe the state of the service in one sentence."""
    if state.users_unavailable_since:
        return gettext(
            "No connection to the database since %(time)s.", time=format_minute(state.users_unavailable_since)
        )
    if state.statistics_unavailable_since:
        since = format_minute(state.statistics_unavailable_since)
        return gettext("Users are created, but statistics cannot be read since %(time)s.", time=since)
    if not state.is_disk_usable:
        return gettext("Users are created, but the disk cannot keep requests during an outage.")
    return gettext("All is well.")


def describe_with_last_request(state: ServiceState, received_at: datetime | None) -> str:
    """Describe the state in one sentence, with the time of the last request if all is well.

    `received_at` is None if there is no request, or its time is unknown.
    """
    if not state.is_well or received_at is None:
        return describe(state)
    return gettext("All is well, last request %(time)s.", time=format_minute(received_at))


def describe_without_statistics(state: ServiceState) -> str:
    """Describe the state in one sentence on a page that cannot show statistics.

    A single request can fail while the state is fine: one stuck connection is no outage.
    """
    if state.users_unavailable_since or state.statistics_unavailable_since:
        return describe(state)
    return gettext("Statistics cannot be shown now.")


def describe_in_lines(state: ServiceState) -> list[StateLine]:
    """Describe the state in four lines, each about one aspect."""
    users, statistics = state.users_unavailable_since, state.statistics_unavailable_since
    checked = f"{to_display_zone(state.checked_at):%H:%M:%S}" if state.checked_at else gettext("not yet")
    return [
        StateLine(gettext("Users are created"), _since_text(users), users is None),
        StateLine(gettext("Requests are kept"), _kept_text(state), state.is_disk_usable),
        StateLine(gettext("Statistics are shown"), _since_text(statistics), statistics is None),
        StateLine(gettext("Last check"), f"{checked}, {zone_label()}", state.checked_at is not None),
    ]


def format_minute(time: datetime) -> str:
    """Format a time to the minute: `15:04`, with the day unless it is today.

    The time is shown in the display zone.
    """
    time = to_display_zone(time)
    is_today = time.date() == datetime.now(time.tzinfo).date()
    return format_time(time, "HH:mm" if is_today else "d MMMM, HH:mm")


def _since_text(unavailable_since: datetime | None) -> str:
    return (
        gettext("yes")
        if unavailable_since is None
        else gettext("no, since %(time)s", time=format_minute(unavailable_since))
    )


def _kept_text(state: ServiceState) -> str:
    if not state.is_disk_usable:
        return gettext("no: the disk is full or cannot be written to")
    return gettext("yes, on disk until the database answers") if state.users_unavailable_since else gettext("yes")
