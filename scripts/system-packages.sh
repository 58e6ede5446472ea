#!/usr/bin/env bash
# Install the system packages that only some tests need: Chromium, in which the report is opened, the colour font whose
# pictures data=emoji is, and Slurm with its accounting, for the tests on a real cluster of one node.
# `system-packages.sh slurm` and `system-packages.sh font` install that alone.
set -euo pipefail
wanted=${1:-all}
packages=()
if [ "$wanted" != slurm ] && [ ! -f /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ]; then
    packages+=(fonts-noto-color-emoji)
fi
if [ "$wanted" = all ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    packages+=(chromium fonts-dejavu-core)
fi
for program in $([ "$wanted" = font ] || echo slurmctld slurmd slurmdbd munged mariadbd); do
    if ! PATH="$PATH:/usr/sbin" command -v $program >/dev/null; then
        packages+=(slurm-wlm munge slurmdbd mariadb-server)
        break
    fi
done
if [ ${#packages[@]} = 0 ]; then exit 0; fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
else
    echo "install these to run the tests that need them, which are skipped otherwise: ${packages[*]}" >&2
fi
