# tool.tcl -- a stand-in for a vendor's tool: runs a script in tclsh, where the tool's commands are served by Python
# (server.py) and every other command but Tcl's own is refused. Vivado and Vivado HLS have Tcl 8.5, so what came
# with 8.6 is taken away, and so is what starts processes.
#
#   tclsh tool.tcl PYTHON TOOL RELEASE SCRIPT

namespace eval standin {
  variable channel
  proc decode {word} { return [encoding convertfrom utf-8 [::standin::base64 decode base64 $word]] }
  proc encode {text} { return [::standin::base64 encode base64 [encoding convertto utf-8 $text]] }

  # One command to the server: prints what it logs, returns what it returns, fails as it fails.
  proc call {args} {
    variable channel
    set words {}
    foreach word $args { lappend words "x[encode $word]" }
    ::standin::puts $channel [join $words " "]
    flush $channel
    while {[gets $channel line] >= 0} {
      set text [decode [string range $line 1 end]]
      switch [string index $line 0] {
        L { ::standin::puts $text }
        R { return $text }
        E { return -code error $text }
      }
    }
    ::standin::puts "ERROR: the stand-in's server has ended"
    ::standin::exit 98
  }
}
rename binary standin::base64
rename puts standin::puts
rename exit standin::exit
proc puts {args} { uplevel 1 [linsert $args 0 ::standin::puts] }
fconfigure stdout -buffering line

foreach {python tool release script} $argv break
set standin::channel [open "|[list $python -m tests.vendor.server $tool $release 2>@stderr]" r+]
foreach name [standin::call ::commands] {
  if {$name eq "exit"} continue
  proc ::$name {args} "return \[uplevel 1 \[linsert \$args 0 ::standin::call $name\]\]"
}
proc exit {{status 0}} {
  standin::call exit $status
  standin::exit $status
}
foreach newer {try throw lmap tailcall coroutine yield yieldto zlib exec open socket load cd} {
  if {[info commands ::$newer] ne "" && $newer ne "open"} { rename ::$newer {} }
}

unset python tool release
if {[catch {source $script} message]} {
  puts "$message"
  puts "    while executing\n\"source $script\""
  standin::exit 1
}
puts "ERROR: \[stand-in\] $script ends without exit: the tool would go on asking for commands."
standin::exit 99
