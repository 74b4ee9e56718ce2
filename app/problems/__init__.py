"""What a person has to know of: kinds of problems, the facts from which they are judged, and the limits."""
