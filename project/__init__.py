"""A fault-tolerant service that creates users and records the outcome of every request."""

from collections.abc import Callable
from typing import Any

import psycopg2
from flask import Flask, Request, Response
from sqlalchemy import Engine, event, make_url
from werkzeug.routing import MapAdapter

from config import Config
from project import admin, api, auth, cli, health, reports, runtime
from project.contract import import_runner, openapi, problem_pages, problems
from project.database import install_wait_callback
from project.embedded import EmbeddedPostgres, EmbeddedPostgresError
from project.extensions import csrf, db
from project.http import (
    compression,
    cors,
    deadlines,
    guards,
    headers,
    hosts,
    languages,
    logs,
    proxies,
    query_parameters,
    request_ids,
    sessions,
)
from project.http.request_state import ServiceRequest
from project.presentation import formats

CONNECT_ARGS: dict[str, str | int] = {
    "connect_timeout": 2,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
    "application_name": "useradd",
    "client_encoding": "utf8",
    "options": "-c timezone=UTC -c synchronous_commit=on -c jit=off -c statement_timeout=2000 -c lock_timeout=1000"
    " -c idle_in_transaction_session_timeout=4000 -c client_connection_check_interval=1000",
}
"""Connection options. With synchronous_commit, a confirmed COMMIT is on disk. Keepalives detect a silent peer while the
service waits, tcp_user_timeout while it sends: a network partition needs both (docs/adr/0004)."""
MIGRATING_ARGS = CONNECT_ARGS | {"target_session_attrs": "read-write"}
WRITING_ARGS = MIGRATING_ARGS | {"options": f"{CONNECT_ARGS['options']} -c enable_seqscan=off"}
"""Without enable_seqscan=off, PostgreSQL would plan foreign key checks and prepared statements for the few rows of a
new table, and then, until the next ANALYZE, read the whole table for each user: creating users took seven times as long
after 16,000 users (measured)."""
REPLICA_ARGS = CONNECT_ARGS | {"target_session_attrs": "standby"}
EMBEDDED_HOST = "embedded.invalid"
EMBEDDED_URL = f"postgresql+psycopg2://{EMBEDDED_HOST}"
"""Placeholder for the URL of the embedded server: its port is known only after its start."""
READ_SNAPSHOT_OPTIONS = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""Execution options of engines that only read: all queries of a transaction see the same snapshot."""


class Application(Flask):
    """The Flask application: checks hosts before routing, and closes responses if a hook fails.

    Views cannot be coroutines, and there are no routes for subdomains or WebSockets: their support would take time in
    each request.
    """

    request_class = ServiceRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged, because no view is a coroutine."""
        return func

    def process_response(self, response: Response) -> Response:
        """Run the after_request hooks. If a hook raises, close the response to free its resources."""
        try:
            return super().process_response(response)
        except BaseException:
            response.close()
            raise

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the URL adapter of a request. Raises SecurityError if its host is not trusted."""
        if request is None:
            return super().create_url_adapter(None)
        request.host = self.extensions["trusted_hosts"].check_host(request)
        return self.url_map.bind(
            request.host,
            request.root_path,
            url_scheme=request.scheme,
            default_method=request.method,
            path_info=request.path,
            query_args=request.query_string.decode(errors="replace"),
        )


def connect_args(url: str, service_args: dict[str, str | int]) -> dict[str, str | int]:
    """Merge the service's connection arguments with `options` and `application_name` of a URL.

    `service_args` take precedence over `options` of the URL, but not over its `application_name`.
    """
    query = make_url(url).query
    found = {name: query[name] for name in ("options", "application_name") if name in query}
    url_args = {name: value if isinstance(value, str) else " ".join(value) for name, value in found.items()}
    if "options" in url_args:
        url_args["options"] += f" {service_args['options']}"
    return service_args | url_args


def create_app(config: Config | None = None) -> Flask:
    """Create the application, by default with the settings of the environment.

    Raises ConfigError if these settings are invalid or the secrets in DATA_DIR cannot be used.
    """
    config = config or Config.from_environment()
    app = Application(__name__)
    configure(app, config)
    register_extensions(app, config)
    register_pipeline(app, config)
    register_blueprints(app)
    return app


def configure(app: Flask, config: Config) -> None:
    """Set the configuration of Flask and its extensions from the settings."""
    app.extensions["embedded_postgres"] = (
        None if config.database_url else EmbeddedPostgres(config.data_dir / "postgres")
    )
    url = config.database_url or EMBEDDED_URL
    pool = {"hide_parameters": True, "max_overflow": 0, "pool_timeout": 0.3, "pool_recycle": 300, "pool_use_lifo": True}
    reading = pool | {
        "pool_size": runtime.READ_CONNECTIONS + runtime.READ_UPKEEP_CONNECTIONS,
        "execution_options": READ_SNAPSHOT_OPTIONS,
    }
    replica, migrating = config.database_read_url, config.migrations_database_url or url
    primary = CONNECT_ARGS | {"target_session_attrs": "primary"}
    app.config.update(
        SECRET_KEY=config.secret_key,
        SECRET_KEY_FALLBACKS=list(config.secret_key_fallbacks),
        WTF_CSRF_SECRET_KEY=[*reversed(config.secret_key_fallbacks), config.secret_key],  # the last one signs
        WTF_CSRF_TIME_LIMIT=None,  # a token is valid as long as its session
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_ENGINE_OPTIONS=pool
        | {
            "pool_size": runtime.CONNECTIONS + runtime.UPKEEP_CONNECTIONS,
            "connect_args": connect_args(url, WRITING_ARGS),
        },
        SQLALCHEMY_BINDS={
            "reading": reading | {"url": url, "connect_args": connect_args(url, primary)},
            "migrating": pool
            | {"url": migrating, "pool_size": 1, "connect_args": connect_args(migrating, MIGRATING_ARGS)},
        }
        | (
            {"replica": reading | {"url": replica, "connect_args": connect_args(replica, REPLICA_ARGS)}}
            if replica
            else {}
        ),
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # a redirect would lose the body
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}


def register_extensions(app: Flask, config: Config) -> None:
    """Initialize the database extension and create the runtime.

    Installs the wait callback of psycopg2 for the whole process.
    """
    install_wait_callback()
    db.init_app(app)
    if server := app.extensions["embedded_postgres"]:
        with app.app_context():
            for engine in db.engines.values():
                _use_embedded_postgres(engine, server)
    runtime.init_app(app, config)
    if server:
        runtime.get_runtime(app).on_start.append(server.keep_watched)


def _use_embedded_postgres(engine: Engine, server: EmbeddedPostgres) -> None:
    """Start the embedded server when the engine first connects, which some commands never do."""

    @event.listens_for(engine, "do_connect")
    def replace_placeholder(dialect: object, record: object, arguments: list[object], options: dict[str, Any]) -> None:
        if options.get("host") == EMBEDDED_HOST:
            try:
                options.update(server.start())
            except EmbeddedPostgresError as error:
                raise psycopg2.OperationalError(str(error)) from error


def register_pipeline(app: Flask, config: Config) -> None:
    """Register middleware and hooks.

    Hooks before a request run in this order, hooks after a request in the reverse order.
    """
    app.wsgi_app = headers.SecurityHeadersMiddleware(app.wsgi_app, https_only=config.https_only)  # type: ignore[method-assign]
    app.wsgi_app = proxies.TrustedProxyMiddleware(app.wsgi_app, config.trusted_proxies)  # type: ignore[method-assign]
    app.wsgi_app = deadlines.DeadlineMiddleware(app.wsgi_app, config.request_deadline_s)  # type: ignore[method-assign]
    hosts.init_app(app, config.allowed_hosts, config.host, is_configured=bool(config.trusted_hosts))
    request_ids.init_app(app)
    logs.init_app(app, config.log_format)
    cors.init_app(app, config.cors_origins)
    if config.otel_exporter_otlp_endpoint:
        from project.http import tracing  # noqa: PLC0415 - its packages are not installed by default

        tracing.init_app(app)
    csrf.init_app(app)
    health.init_app(app)
    compression.init_app(app)
    languages.init_app(app)
    query_parameters.init_app(app)
    sessions.init_app(app)
    guards.init_app(app)
    formats.init_app(app)
    problems.init_app(app)
    import_runner.init_app(app)


def register_blueprints(app: Flask) -> None:
    """Register the blueprints, their OpenAPI document, and the commands."""
    for blueprint in (problem_pages.bp, api.bp, auth.bp, reports.bp, admin.bp, health.bp):
        app.register_blueprint(blueprint)
    csrf.exempt(api.bp)
    openapi.init_app(app, (api.describe_endpoints, reports.describe_endpoints, health.describe_endpoints))
    cli.init_app(app)
