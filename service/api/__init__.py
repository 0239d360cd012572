"""The HTTP API: the application, its routes, errors, uploads and query parameters."""
