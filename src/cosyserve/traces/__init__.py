"""Traces of requests by OpenTelemetry. Off, and nothing of it is imported, unless its own variables ask for them."""
