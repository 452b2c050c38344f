"""Whether a page or JSON is the answer."""

from project.http.guards import bearer_token
from project.http.request_state import current_request, request_state

FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def prefers_page() -> bool:
    """Return whether a page is the answer: to a browser that reads or sends the form of a page.

    Java's own client, jsoup and WebViews name text/html first, too. So `Accept` decides nothing below /api/, for other
    methods than GET and HEAD, and for a client with an API key. Forms are for people, who must see why one is refused.
    """
    request = current_request()
    if request.path.startswith("/api/") or bearer_token() is not None:
        return False
    if not (request.method in {"GET", "HEAD"} or _is_form()):
        return False
    accepts = request.accept_mimetypes
    return accepts["text/html"] > accepts["application/json"] and "text/html" in accepts.values()


def _is_form() -> bool:
    """Return whether this is the form of a page: other views do not accept POST."""
    request = current_request()
    is_routed = request.endpoint is not None and request_state().attempt is None
    return request.method == "POST" and is_routed and request.mimetype in FORM_TYPES
