#!/usr/bin/env bash
# From an empty volume to a server that speaks. Every step is a command of cosyserve, which decides for itself whether
# there is anything to do; this script only puts them in order.
#
#   docker run IMAGE                    doctor, fetch, build, serve
#   docker run IMAGE --port 7000        flags alone are flags of serve
#   docker run IMAGE fetch              one step alone, for an init container
#   docker run IMAGE bash               anything else runs as it is
set -Eeuo pipefail

# is_ours COMMAND: whether it is one of cosyserve's
is_ours() {
  case $1 in
  serve | say | doctor | fetch | build | models | engines | voices | bench) return 0 ;;
  *) return 1 ;;
  esac
}

# asks_for_help ARGUMENT…: then nothing is prepared
asks_for_help() {
  local argument
  for argument in "$@"; do
    case $argument in -h | --help) return 0 ;; esac
  done
  return 1
}

# secret NAME: from NAME, or from the file that NAME_FILE names, but not from both. (Those of cosyserve's own settings
# are read by itself.)
secret() {
  local name=$1 file=$1_FILE
  [[ -n ${!file:-} ]] || return 0
  if [[ -n ${!name:-} ]]; then
    printf 'entrypoint: %s and %s are both set; unset one of them\n' "$name" "$file" >&2
    printf 'entrypoint：同时设置了 %s 和 %s，请取消其中一个\n' "$name" "$file" >&2
    exit 2
  fi
  if [[ ! -f ${!file} || ! -r ${!file} || ! -s ${!file} ]]; then
    printf 'entrypoint: %s names %s, which cannot be read or is empty; mount a file, or correct the path\n' \
      "$file" "${!file}" >&2
    printf 'entrypoint：%s 指向的 %s 无法读取或为空，请挂载该文件或更正路径\n' "$file" "${!file}" >&2
    exit 2
  fi
  export "$name=$(head -c 4096 -- "${!file}")"
  unset "$file"
}

# extensions: what an image on top of this one wants to do first
extensions() {
  local script
  for script in /docker-entrypoint.d/*.sh; do
    [[ -e $script ]] || continue
    printf 'entrypoint: running %s\n' "$script" >&2
    # shellcheck disable=SC1090
    . "$script"
  done
}

# prepare serve ARGUMENT…: everything before the server. The doctor's warnings (status 1) are no reason to stop.
prepare() {
  local status=0
  cosyserve doctor --quick -- "$@" >&2 || status=$?
  [[ $status -le 1 ]] || exit "$status"
  cosyserve fetch --if-wanted
  cosyserve build --if-possible
}

# as_json: what is said before the server, as lines of its log
as_json() {
  python3 -I -S -c '
import datetime, json, sys
for line in filter(str.strip, sys.stdin):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    fields = {"time": now, "level": "info", "logger": "entrypoint", "message": line.rstrip()}
    print(json.dumps(fields, ensure_ascii=False), file=sys.stderr, flush=True)'
}

main() {
  if [[ $# == 0 || $1 == -* ]]; then
    set -- serve "$@"
  fi
  if ! is_ours "$1"; then
    exec "$@"
  fi
  secret HF_TOKEN
  secret MODELSCOPE_API_TOKEN
  extensions
  if [[ $1 != serve ]] || asks_for_help "$@"; then
    exec cosyserve "$@"
  fi
  if [[ ${COSYSERVE_LOG_FORMAT:-} == json ]]; then
    prepare "$@" 2>&1 | as_json
  else
    prepare "$@"
  fi
  exec cosyserve "$@" </dev/null # nobody is asked anything in a container
}

main "$@"
