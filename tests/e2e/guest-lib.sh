# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# guest-lib.sh - what the tests with a kernel of their own share beyond remote-lib.sh, which this
# sources: Debian's kernel in QEMU, see tests/guest/guest.
. "$(dirname "${BASH_SOURCE[0]}")/remote-lib.sh"

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
load=$BUILD/tests/guest-load
attach_programs+=(--program "$load")

# What scripts that attach images begin with.
# shellcheck disable=SC2016 # the guest expands it
attach_begin='
	set -e
	syslogd -O /tmp/syslog
	attach() { overlaybd attach --plugin /bin/nbdkit-overlaybd-plugin.so "$@"; }
	state=/run/overlaybd/nbd0
	fails() { # TEXT COMMAND...
		text=$1
		shift
		if "$@" >/tmp/fails 2>&1; then
			echo "it did not fail: $*"
			exit 1
		fi
		grep -qF "$text" /tmp/fails || { echo "not \"$text\":"; cat /tmp/fails; exit 1; }
	}
	await() { # SECONDS COMMAND...
		n=$(($1 * 10))
		shift
		until "$@"; do
			n=$((n - 1))
			[ $n -gt 0 ] || { echo "waited in vain: $*"; exit 1; }
			usleep 100000
		done
	}
	# The server that is given is gone, and there is another one.
	is_new_server() { [ -s $state/pid ] && [ "$(cat $state/pid 2>/dev/null)" != "$1" ]; }
	kill_server() {
		old=$(cat $state/pid)
		kill -9 $old
		await 60 is_new_server $old
	}
	trap "rc=\$?; [ \$rc = 0 ] || tail -n 20 /tmp/syslog" EXIT
'

# stalled_at_most SECONDS: what the load waited longest for, less what the machine was stopped.
stalled_at_most()
{
	local longest pause

	longest=$(said longest)
	pause=$(said pause)
	[ -n "$longest" ] && [ -n "$pause" ] || fail "the load did not report"
	[ $((longest - pause)) -le $(($1 * 1000)) ] ||
		fail "the longest wait is $longest ms, the machine's longest pause $pause ms"
}
