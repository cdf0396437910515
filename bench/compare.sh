#!/usr/bin/env bash
# Compares what a request costs at a commit and in the working tree. The benchmarks are those of the working tree on both
# sides, so that only the component differs. The two take turns case by case, within a second or two: on a machine that is
# shared, times drift.
#
#     bench/compare.sh COMMIT
#
# boundedbatch is what is compared. The floor is the same code on both sides: as far as it differs goes chance.
#
# What may be set: ROUNDS (16), BENCHTIME (4x: runs of a case in each round), BENCH (other cases, as for go test -bench).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -ne 1 ]; then
	echo "usage: bench/compare.sh COMMIT" >&2
	exit 2
fi
commit=$(git rev-parse --verify --quiet "$1^{commit}") || { echo "no commit is named $1" >&2; exit 2; }
rounds=${ROUNDS:-16}
if [ -n "${BENCH:-}" ]; then
	cases=("$BENCH")
	row=.fullname
else
	cases=()
	for signal in traces logs; do
		for producers in 1 8 64; do
			cases+=("^BenchmarkConsume\$/^signal=$signal\$/^items=10\$/^producers=$producers\$/^impl=(boundedbatch|floor)\$")
		done
	done
	row=/signal,/producers
fi

export GOFLAGS="${GOFLAGS:-} -buildvcs=false" GOWORK=off
go=${GO:-go}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

make --no-print-directory --silent .bin/benchstat
# An archive, not a git worktree: nothing stays behind in .git if this is killed.
mkdir "$tmp/base"
git archive "$commit" | tar -xf - -C "$tmp/base"
rm -rf "$tmp/base/bench"
cp -R bench "$tmp/base/bench"
base=$(git rev-parse --short "$commit")
echo "building the benchmarks at $base and in the working tree"
# -mod=mod: the component may have had other dependencies then. -trimpath: the same paths on both sides.
"$go" test -C "$tmp/base/bench" -mod=mod -trimpath -c -o "$tmp/base.test" .
"$go" test -C bench -trimpath -c -o "$tmp/work.test" .

# measure SIDE CASE: appends to SIDE.txt.
measure() {
	if ! "$tmp/$1.test" -test.run '^$' -test.bench "$2" -test.benchtime "${BENCHTIME:-4x}" >"$tmp/out" 2>&1; then
		cat "$tmp/out" >&2
		return 1
	fi
	if ! grep -q ^Benchmark "$tmp/out"; then
		echo "no benchmark matches $2" >&2
		return 1
	fi
	cat "$tmp/out" >>"$tmp/$1.txt"
}

for ((round = 1; round <= rounds; round++)); do
	# Who begins alternates: the second finds the machine as the first has left it.
	turns='base work'
	((round % 2)) || turns='work base'
	for case in "${cases[@]}"; do
		for side in $turns; do
			measure "$side" "$case"
		done
	done
	echo "round $round of $rounds (${SECONDS}s)"
done

echo
.bin/benchstat -table /impl -row "$row" -filter '.unit:(cpu-ns/req OR ns/req OR allocs/req OR B/req)' \
	"$base=$tmp/base.txt" "working tree=$tmp/work.txt"
