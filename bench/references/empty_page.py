"""The service with one page more: empty, for those who have logged in, as every page is."""

import wsgi

wsgi.app.add_url_rule("/empty/", "empty", lambda: "")

if __name__ == "__main__":
    wsgi.main()
