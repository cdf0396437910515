#!/usr/bin/env bash
# Runs every fuzz target of the module in the current directory, one after the other, each for FUZZTIME, with
# FUZZFLAGS. make fuzz calls it. Each begins with what is kept of earlier searches below testdata/fuzz/, which go test runs as well.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

found=0
packages=$("${GO:-go}" list ./...)
for package in $packages; do
	# go test fuzzes one target of one package a call.
	targets=$("${GO:-go}" test -list '^Fuzz' "$package" | awk '/^Fuzz/')
	for target in $targets; do
		found=$((found + 1))
		echo "$package $target for ${FUZZTIME:=20s}"
		if "${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 5s ${FUZZFLAGS:-} "$package" 2>&1 | tee "$log"; then
			continue
		fi
		# Go's fuzzer may report the end of FUZZTIME itself as a failure, on a busy machine one time in a few (golang/go#75804):
		# its own context's error alone, with no file and line before it, and no failing input. The target has had its time.
		if grep -qx '    context deadline exceeded' "$log" && ! grep -q -e 'Failing input' -e '_test\.go:' -e '^panic:' "$log"; then
			echo "$target: that was the end of $FUZZTIME (golang/go#75804), not a finding"
			continue
		fi
		exit 1
	done
done

# Would pass for ever otherwise.
if [ "$found" -eq 0 ]; then
	echo "no fuzz target found" >&2
	exit 1
fi
echo "$found fuzz targets passed"
