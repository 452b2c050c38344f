"""The version of the service, for pages, /status, metrics, traces and the OpenAPI document."""

VERSION = "1.0.0"
