# Fails, and with it the build, unless the almanac does what it says.
set -eu
failed=0
check() {
    if [ "$2" = "$3" ]; then echo "ok: $1"; else echo "FAILED: $1: got '$2', not '$3'"; failed=1; fi
}
check "every fact is in the table" "$("$ALMANAC" | grep -c '^  ')" "$(cat facts/*.txt | grep -c .)"
check "a day has its fact" "$("$ALMANAC" 07-20 | grep -c Moon)" 1
check "facts are in order" "$("$ALMANAC" | sed 1d)" "$("$ALMANAC" | sed 1d | sort)"
status=0; "$ALMANAC" tomorrow 2>/dev/null || status=$?
check "nonsense is refused" "$status" 2
exit $failed
