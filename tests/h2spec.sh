#!/bin/sh
# Runs h2spec (suites generic, http2 and hpack, strict) against the asyncio transport. Builds h2spec
# with Go when it is not installed.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/bin
VERSION=${H2SPEC_VERSION:-v2.2.1+incompatible}

H2SPEC=$(command -v h2spec || echo "$CACHE/h2spec")
if [ ! -x "$H2SPEC" ]; then
    command -v go >/dev/null || { echo "h2spec needs Go to be built, or h2spec on the PATH" >&2; exit 1; }
    # h2spec has no go.mod. Without these versions, Go takes the newest ones, which need a newer Go than Debian 12 has.
    MODULE=$(mktemp -d)
    cat >"$MODULE/go.mod" <<END
module conformance

go 1.19

require (
	github.com/fatih/color v1.15.0
	github.com/spf13/cobra v1.7.0
	github.com/summerwind/h2spec $VERSION
	golang.org/x/net v0.17.0
)
END
    mkdir -p "$CACHE"
    (cd "$MODULE" && GOFLAGS=-mod=mod go build -o "$CACHE/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
    rm -r "$MODULE"
fi

ADDRESS=$(mktemp)
"$PYTHON" -m extproc.transport --listen 127.0.0.1:0 >"$ADDRESS" &
SERVER=$!
trap 'kill "$SERVER" 2>/dev/null; rm -f "$ADDRESS"' EXIT
tries=0
while [ ! -s "$ADDRESS" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] && kill -0 "$SERVER" || { echo "the server did not start" >&2; exit 1; }
    sleep 0.1
done
PORT=$(sed 's/.*://' "$ADDRESS")
"$H2SPEC" generic http2 hpack --strict --host 127.0.0.1 --port "$PORT" "$@"
