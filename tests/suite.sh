#!/bin/sh
# The whole suite with the interpreter that is named (default: python): what measures time first and alone, then three shares side by side.
set -u
cd "$(dirname "$0")/.."
python=${1:-python}
shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT

# Preemption is a matter of milliseconds: it is tested in a process that carries nothing else.
preemption=tests/scripting/test_preemption.py
alone="tests/proofs tests/cli/test_rollback.py tests/server/test_pressure.py"
servers="tests/cli tests/server"
peers="tests/journeys tests/packaging"

ignoring() { for path in "$@"; do printf ' --ignore=%s' "$path"; done; }

share() {  # share NAME ARGUMENTS: run them, keep what they print and whether they passed
    name=$1; shift
    "$python" -m pytest -q "$@" > "$shared/$name" 2>&1
    echo $? > "$shared/$name.status"
}

share preemption $preemption
share alone $alone
share peers $peers &
share servers $servers $(ignoring $alone) &
share rooms tests $(ignoring $preemption $alone $servers $peers)
wait

failed=0
for name in preemption alone peers servers rooms; do
    echo "== $name"
    cat "$shared/$name"
    [ "$(cat "$shared/$name.status")" = 0 ] || failed=1
done
exit $failed
