#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tool-usage.sh - the command line of `overlaybd`: help, exit status, suggestions; the manual page
# tells of every subcommand and option.
. "$(dirname "$0")/tool-lib.sh"

exits 0 "Usage: overlaybd SUBCOMMAND" "$overlaybd" --help
exits 0 "Usage: overlaybd SUBCOMMAND" "$overlaybd" -h
exits 0 "overlaybd " "$overlaybd" --version
exits 0 "overlaybd " "$overlaybd" -V
complains 2 "a subcommand is missing"
complains 2 "unknown subcommand 'inof' (did you mean 'info'?)" inof
complains 2 "unknown subcommand 'xxxxxxxx'; see overlaybd --help" xxxxxxxx
complains 2 "unknown option '--foo'" --foo
complains 2 "info: unknown option '--jsn' (did you mean '--json'?)" info --jsn x
complains 2 "info: unknown option '--zzzzzzzz'; see overlaybd info --help" info --zzzzzzzz=1 x
complains 2 "info: unknown option '-x'" info -x
complains 2 "info: option '--json' takes no value" info --json=1 x
complains 2 "info: FILE|CONFIG is missing" info
complains 2 "info: unexpected argument 'b'" info a b
complains 2 "map: unexpected argument 'b'" map --json a b
complains 2 "commit: option '--raw' needs a value" commit --raw
complains 2 "commit: option '-o' needs a value" commit -o
complains 2 "commit: option '--b' is ambiguous" commit --b x
complains 2 "commit: --raw is for a raw disk, not for 'x'" commit --raw a -o b x
complains 2 "commit: --base is for a raw disk, not for 'x'" commit x --base a -o b
complains 2 "commit: unexpected argument 'y'" commit x y -o b
complains 2 "commit: --output is missing" commit x
complains 2 "commit: UPPER or --raw is missing" commit -o x
complains 2 "commit: --output is missing" commit --raw x
complains 2 "commit: UPPER or --raw is missing" commit --raw "" -o x
complains 2 "commit: --output is missing" commit --raw x -o ""
complains 2 "compress: --output is missing" compress x
complains 2 "compress: --output is missing" compress x -o ""
complains 2 "extract: --output is missing" extract x
for value in "" 0 1 4095 4097 12K 128K 65537 4Kx x -4096 99999999999999999999999; do
	complains 2 "commit: block size '$value' is not" commit --raw x -o y "--block-size=$value"
	complains 2 "compress: block size '$value' is not" compress x -o y --block-size "$value"
done
for value in "" -1 1x 0x1 100 99999999999999999999999; do
	complains 2 "commit: level '$value' is not a number" commit --raw x -o y --level "$value"
done
head -c 8192 /dev/zero >"$work/raw"
complains 2 "commit: " commit --raw "$work/raw" -o "$work/y" --level 13
complains 2 "commit: " commit --raw "$work/raw" -o "$work/y" --level 20 --compress zstd
complains 2 "compress: " compress "$work/raw" -o "$work/y" --level 13
[ ! -e "$work/y" ] || fail "a wrong level left a file"
complains 2 "commit: unknown compression 'gzip': lz4 or zstd" commit --raw x -o y --compress gzip
complains 2 "compress: unknown compression 'none': lz4 or zstd" compress x -o y --algorithm none
complains 2 "commit: --level needs a compression" commit --raw x -o y --compress none --level 1
complains 2 "commit: --block-size needs a compression" commit --raw x -o y --compress none \
	--block-size 4K
complains 2 "commit: --uuid: 'x' is not a uuid" commit --raw x -o y --uuid x
complains 2 "commit: --parent-uuid: '' is not a uuid" commit --raw x -o y --parent-uuid ""
complains 2 "commit: the message has 257 bytes, more than 256" commit --raw x -o y \
	--message "$(printf '%257s' '')"
# Options may stand after the operand, be shortened, and end with --.
exits 1 "overlaybd: -x: No such file" "$overlaybd" info --js -- -x
say "ok: command lines"

manual=$SOURCE/man/overlaybd.pod
for command in $("$overlaybd" --help | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p'); do
	exits 0 "Usage: overlaybd $command" "$overlaybd" "$command" --help
	grep -q "^=head2 B<overlaybd $command>" "$manual" || fail "$command is not in the manual page"
	grep -o -- '--[a-z][a-z-]*' "$work/out" | sort -u >"$work/help"
	sed -n "/^=head2 B<overlaybd $command>/,/^=head[12]/p" "$manual" |
		sed -n 's/^=item.*B<\(--[a-z][a-z-]*\)>.*/\1/p' | sort >"$work/manual"
	echo --help | sort - "$work/manual" >"$work/manual+help"
	diff "$work/help" "$work/manual+help" || fail "help and manual page of $command differ"
done
say "ok: the manual page"
