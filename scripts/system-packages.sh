#!/usr/bin/env bash
# Install the system packages that only some tests need: Chromium, in which the report is opened.
set -euo pipefail
command -v chromium >/dev/null || command -v google-chrome >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
else
    echo "install Chromium to run the browser tests: they are skipped without it" >&2
fi
