"""What the layers tell each other through the ASGI scope of a request."""

FACTS = "pos_sync.facts"
"""A dict that says, for the log line and the metrics, what happened to a delivery; empty for any other request."""

VERIFIED_BODY = "pos_sync.verified_body"
"""The raw bytes of a body whose signature was verified. Absent, there is nothing to act on: fail closed."""

DEADLINE = "pos_sync.deadline"
"""By when the request has to be answered, in the event loop's time."""

BODY_ARRIVED = "pos_sync.body_arrived"
"""Set where the whole body came together with the head, so that reading it cannot wait."""
