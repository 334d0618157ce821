# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# lib.sh - what ./check, ./quickstart and .ci/run share.  Sourced; the working directory is the
# project's.

# configure DIR [MESON-OPTION...]: sets up a build folder, or the one that is there anew.
configure()
{
	local dir=$1
	shift
	if [ -e "$dir/build.ninja" ]; then
		meson configure "$dir" "$@" >/dev/null && return
		rm -rf "$dir" # of another meson, or another project's
	fi
	meson setup "$dir" "$@" </dev/null
}

# compile DIR: quiet but for what goes wrong.
compile()
{
	ninja -C "$1" --quiet </dev/null
}

# run_tests DIR NAME [MESON-TEST-ARGUMENT...]: results go to DIR/meson-logs/NAME.json.  The array
# `under` is a command to run it with.
under=()
run_tests()
{
	local dir=$1 name=$2
	shift 2
	"${under[@]}" meson test -C "$dir" --no-rebuild --print-errorlogs --logbase "$name" "$@" </dev/null
}
