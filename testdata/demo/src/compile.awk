# Facts in, one `MM-DD|year|text` a line, to a table out: a heading, the facts of each day in order, a count.
BEGIN { FS = "|"; print "# " title }
NF != 3 { print "compile: line " NR " has " NF " fields, not 3" > "/dev/stderr"; failed = 1; exit 1 }
$1 !~ /^[01][0-9]-[0-3][0-9]$/ { print "compile: `" $1 "` is not a date" > "/dev/stderr"; failed = 1; exit 1 }
{ printf "%s\t%s\t%s\n", $1, $2, $3; count++ }
END { if (!failed) print "# " count + 0 " facts" }
