#!/usr/bin/env bash
# Whether this checkout can be released as VERSION (v0.1.0, say). make release-check calls it, with the tools built. It goes on after
# a failure, to tell all that is missing, and fails in the end. Nothing is tagged or published.
set -uo pipefail

: "${VERSION:?is not set: make release-check VERSION=v0.1.0}"
failed=()

check() {
	local what=$1
	shift
	echo "=== $what"
	if ! "$@"; then
		failed+=("$what")
	fi
}

clean() {
	local changes
	changes=$(git status --porcelain) || return
	[ -z "$changes" ] || { echo "there are changes that are not committed:" >&2; echo "$changes" >&2; return 1; }
}

unused() {
	! git rev-parse -q --verify "refs/tags/$VERSION" >/dev/null || { echo "$VERSION is tagged already" >&2; return 1; }
}

# What users of the Go packages may rely on: incompatible changes need another minor version before 1.0, another major one after.
api() {
	local last old status
	last=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) || { echo "no release before $VERSION to compare with"; return 0; }
	old=$(mktemp -d) && git worktree add --quiet --detach "$old/tree" "$last" || return
	compare_api
	status=$?
	git worktree remove --force "$old/tree"
	rm -rf "$old"
	return $status
}

# compare_api compares with what is in $old/tree, of the version $last.
compare_api() {
	local package changes incompatible=
	for package in . ./batcher; do
		(cd "$old/tree/$package" && "$APIDIFF" -w "$old/api" .) || return
		changes=$(cd "$package" && "$APIDIFF" "$old/api" .) || return
		[ -z "$changes" ] || printf '%s since %s:\n%s\n' "$package" "$last" "$changes"
		! grep -q '^Incompatible changes:' <<<"$changes" || incompatible=yes
	done
	if [ -n "$incompatible" ] && [ "$(compatible_part "$VERSION")" = "$(compatible_part "$last")" ]; then
		echo "$VERSION may not have incompatible changes to $last" >&2
		return 1
	fi
}

# v0.3.1 promises what v0.3.0 does, v2.3.1 what v2.0.0 does.
compatible_part() {
	case $1 in
	v0.*) cut -d. -f1,2 <<<"$1" ;;
	*) cut -d. -f1 <<<"$1" ;;
	esac
}

check "the tree is clean" clean
check "$VERSION is new" unused
check "the changelog has an entry for $VERSION" "$RELEASE" changelog "$VERSION" CHANGELOG.md
check "the API is compatible" api
for target in licences-check generate-check fmt-check lint bench-report-check test test-tools; do
	check "make $target" make --no-print-directory "$target"
done

if [ ${#failed[@]} -gt 0 ]; then
	printf 'not ready for %s:\n' "$VERSION" >&2
	printf '  %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "ready for $VERSION; make bench-gate holds the performance without a margin, which wants a machine that does nothing else"
