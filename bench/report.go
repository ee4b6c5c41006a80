package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// figure is one measured value, with the bar that it is held to.
type figure struct {
	what   string
	value  float64
	unit   string // "×", "ns", "allocations"
	bar    bar
	detail string // what the value was made from
}

// bar is a limit; the zero bar is none.
type bar struct {
	kind  barKind
	limit float64
}

type barKind uint8

const (
	noBar barKind = iota
	barAtMost
	barAtLeast
)

func atMost(limit float64) bar  { return bar{barAtMost, limit} }
func atLeast(limit float64) bar { return bar{barAtLeast, limit} }

func (b bar) met(value float64) bool {
	switch b.kind {
	case barAtMost:
		return value <= b.limit
	case barAtLeast:
		return value >= b.limit
	}
	return true
}

func (b bar) String() string {
	switch b.kind {
	case barAtMost:
		return "≤ " + number(b.limit)
	case barAtLeast:
		return "≥ " + number(b.limit)
	}
	return ""
}

// verdict is "ok", "MISSED", or empty where there is no bar.
func (f figure) verdict() string {
	switch {
	case f.bar.kind == noBar:
		return ""
	case f.bar.met(f.value):
		return "ok"
	}
	return "MISSED"
}

func countMissed(figures []figure) (n int) {
	for _, f := range figures {
		if f.verdict() == "MISSED" {
			n++
		}
	}
	return n
}

// number writes two decimals where they say something.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v == float64(int64(v)):
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// table prints rows as they come, so that a long run shows how far it is.
type table struct{ w io.Writer }

var columns = []struct {
	head  string
	width int
}{{"what", 64}, {"figure", 16}, {"bar", 7}, {"", 7}, {"from", 0}}

func newTable(w io.Writer) *table {
	t := &table{w}
	var heads []string
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	t.line(heads)
	return t
}

func (t *table) row(f figure) {
	t.line([]string{f.what, number(f.value) + " " + f.unit, f.bar.String(), f.verdict(), f.detail})
}

func (t *table) line(cells []string) {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if pad := columns[i].width - utf8.RuneCountInString(cell); pad > 0 {
			b.WriteString(strings.Repeat(" ", pad))
		}
		b.WriteString("  ")
	}
	_, _ = fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
}
