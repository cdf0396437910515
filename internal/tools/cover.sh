#!/usr/bin/env bash
# Judges a coverage profile of batcher/: lists the blocks that no test executes, and fails if less than LEAST percent of
# the statements are executed. make cover and make cover-check call it. CONTRIBUTING.md says why what is listed is.
set -euo pipefail

profile=$1
least=${2:-95}
module=$(awk '$1 == "module" { print $2 }' go.mod)

# A block is "file.go:line.column,line.column statements count". It is there once for each test binary.
awk -v prefix="$module/" '
	$1 == "mode:" { next }
	{ statements[$1] = $2; if ($3 > 0) executed[$1] = 1 }
	END {
		for (block in statements)
			if (!(block in executed)) {
				split(block, part, ":")
				split(part[2], at, /[.,]/)
				print substr(part[1], length(prefix) + 1), at[1], at[3]
			}
	}
' "$profile" | sort -k1,1 -k2,2n | while read -r file from to; do
	echo "$file:$from-$to: $(sed -n "${from}s/^[[:space:]]*//p" "$file")"
done

awk -v least="$least" '
	$1 == "mode:" { next }
	{ statements[$1] = $2; if ($3 > 0) executed[$1] = 1 }
	END {
		for (block in statements) {
			all += statements[block]
			if (block in executed) some += statements[block]
		}
		if (all == 0) { print "the profile names no statement" > "/dev/stderr"; exit 1 }
		percent = 100 * some / all
		printf "batcher/: %.1f %% of %d statements are executed by its tests; at least %s %%\n", percent, all, least
		exit percent < least
	}
' "$profile"
