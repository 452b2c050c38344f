"""Content negotiation: decides whether a response is an HTML page or JSON."""

from project.http.guards import bearer_token
from project.http.request_state import current_request, request_state

FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def prefers_page() -> bool:
    """Return whether to respond with a page, because a browser seems to have sent the request.

    `Accept` must prefer HTML, but this is also true of WebViews and of some libraries (Java, jsoup). Therefore programs
    are assumed below /api/, with an API key, and for methods other than GET and HEAD unless a form is submitted.
    """
    request = current_request()
    if request.path.startswith("/api/") or bearer_token() is not None:
        return False
    if not (request.method in {"GET", "HEAD"} or _is_form()):
        return False
    accepts = request.accept_mimetypes
    return accepts["text/html"] > accepts["application/json"] and "text/html" in accepts.values()


def _is_form() -> bool:
    """Return whether the request submits the form of a page, so that a person has sent it."""
    request = current_request()
    is_routed = request.endpoint is not None and request_state().attempt is None
    return request.method == "POST" and is_routed and request.mimetype in FORM_TYPES
