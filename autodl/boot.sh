#!/usr/bin/env bash
# What /etc/autodl.sh runs at every boot. It ends at once, so that no login waits for it; what is done then stands in
# shared/logs/boot.log.
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$root/shared/logs" || exit 0
for profile in /etc/profile.d/autodl*.sh; do
  # shellcheck disable=SC1090
  if [[ -r $profile ]]; then . "$profile"; fi
done
setsid nohup "$root/current/venv/bin/python" -m cosyserve instance --root "$root" boot \
  >>"$root/shared/logs/boot.log" 2>&1 </dev/null &
