#!/bin/sh
# almanac --all | MM-DD: the facts of every day, or of one. Status 1 if there are none.
set -eu
wanted=${1:---all}
case $wanted in
    --all) pattern='^[0-9]' ;;
    [01][0-9]-[0-3][0-9]) pattern="^$wanted" ;;
    *) echo "almanac: \`$wanted\` is not a date (MM-DD)" >&2; exit 2 ;;
esac
sed -n 's/^# //p' "$TABLE" | head -n 1
grep "$pattern" "$TABLE" | while IFS='	' read -r day year text; do
    printf '  %s  %s  %s\n' "$day" "$year" "$text"
done
