#!/bin/sh
# The nginx image's entrypoint: it runs the scripts of /docker-entrypoint.d before nginx. (Those that the real image has there
# change nothing on a read-only file system.)
set -e
if [ "$1" = nginx ]; then
  find /docker-entrypoint.d/ -follow -type f -name '*.sh' -perm /111 -print | sort -V | while read -r file; do
    "$file"
  done
fi
exec "$@"
