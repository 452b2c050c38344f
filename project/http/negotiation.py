"""Content negotiation: decides whether a response is an HTML page or JSON."""

from project.http.guards import bearer_token
from project.http.request_state import current_request, request_state

FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def prefers_page() -> bool:
    """Return whether to respond with a page, because a browser seems to have sent the request.

    `Accept` must prefer HTML, but WebViews and some libraries of programs (Java, jsoup) prefer HTML, too. Therefore a
    request never gets a page below /api/, with an API key, or if its method is not GET or HEAD and it submits no form.
    """
    request = current_request()
    if request.path.startswith("/api/") or bearer_token() is not None:
        return False
    if not (request.method in {"GET", "HEAD"} or _is_form()):
        return False
    accepts = request.accept_mimetypes
    return accepts["text/html"] > accepts["application/json"] and "text/html" in accepts.values()


def _is_form() -> bool:
    """Return whether the request submits the form of a page, and so comes from a browser."""
    request = current_request()
    is_routed = request.endpoint is not None and request_state().attempt is None
    return request.method == "POST" and is_routed and request.mimetype in FORM_TYPES
