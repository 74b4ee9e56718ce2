"""What keeps a worker from writing."""

from dataclasses import dataclass

from app.problems.kinds import Kind


@dataclass(frozen=True, slots=True)
class Ailment:
    """What keeps this worker from writing."""

    kind: Kind
    words: str
