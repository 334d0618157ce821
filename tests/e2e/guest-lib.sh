# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# guest-lib.sh - what the tests with a kernel of their own share beyond tool-lib.sh, which this
# sources: Debian's kernel in QEMU, see tests/guest/guest.
. "$(dirname "${BASH_SOURCE[0]}")/tool-lib.sh"

# guest ARGUMENT...: boots it; what the script prints is printed, and kept in $work/guest.log.
guest()
{
	"$SOURCE/tests/guest/guest" --cache "$BUILD/tests/guest-cache" "$@" 2>&1 |
		tee "$work/guest.log"
}

# The kernel and its initramfs must be there; where they cannot be had, the test is skipped.
need_guest()
{
	local status=0

	guest --prepare || status=$?
	[ "$status" -ne 77 ] || exit 77
	[ "$status" -eq 0 ] || fail "the guest cannot be made"
}

# guest_runs ARGUMENT...: the script must end well.
guest_runs()
{
	local status=0

	guest "$@" || status=$?
	[ "$status" -eq 0 ] || fail "the guest ended with status $status"
}

# said NAME: the value of the last line "NAME: VALUE" that the guest printed.
said()
{
	sed -n "s/^$1: //p" "$work/guest.log" | tail -n 1
}

# The programs that a guest needs to attach images itself.
attach_programs=(--program "$overlaybd" --program "$plugin")
! nbdkit_path=$(command -v nbdkit) || attach_programs+=(--program "$nbdkit_path")
