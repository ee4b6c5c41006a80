// Command bench measures coatcheck against what it is built on and what it
// replaces, and checks the ratios that the project promises. See
// docs/performance.md.
//
//	go run -C bench .         # measure and print
//	go run -C bench . -check  # and fail if a bar is missed
//
// Two things that are compared take turns in one process, in short rounds, and
// what counts is the median of the rounds' ratios: whatever else the machine is
// doing slows both. Absolute times are printed for orientation only.
package main
