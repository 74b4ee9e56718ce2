"""Is the service in this container ready? For the image's HEALTHCHECK: standard library only, so that it costs little."""

import os
import sys
import urllib.error
import urllib.request

SECONDS = 3


def main() -> int:
    """0 if /readyz of this machine's service says so, else 1."""
    try:
        # Without a proxy, which HTTP_PROXY would name: it is for calls to mipOS.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{os.environ.get('PORT', '8080')}/readyz", timeout=SECONDS):
            return 0
    except (OSError, urllib.error.URLError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
