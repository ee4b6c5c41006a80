package main

import (
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value float64
		bar   bar
		want  string
	}{
		{3.5, atMost(3.5), "ok"},
		{3.51, atMost(3.5), "MISSED"},
		{300, atLeast(300), "ok"},
		{299, atLeast(300), "MISSED"},
		{0, atMost(0), "ok"},
		{1, atMost(0), "MISSED"},
		{1e9, bar{}, ""},
	} {
		f := figure{value: tt.value, bar: tt.bar}
		if got := f.verdict(); got != tt.want {
			t.Errorf("%v against %q: %q, want %q", tt.value, tt.bar, got, tt.want)
		}
	}
	if got := countMissed([]figure{{value: 1, bar: atMost(0)}, {value: 1}, {value: 1, bar: atLeast(1)}, {bar: atLeast(1)}}); got != 2 {
		t.Errorf("%d missed, want 2", got)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{0: "0", 3: "3", 1.234: "1.23", -1.5: "-1.50", 99.999: "100.00", 456.7: "457"} {
		if got := number(value); got != want {
			t.Errorf("%v: %q, want %q", value, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	table := newTable(&out)
	table.row(figure{what: "a ratio", value: 1.5, unit: "×", bar: atMost(1.2), detail: "much 3ns, little 2ns"})
	table.row(figure{what: "a time", value: 2, unit: "µs"})
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want a head and two rows: %q", len(lines), lines)
	}
	for _, cell := range []string{"a ratio", "1.50 ×", "≤ 1.20", "MISSED", "much 3ns"} {
		if !strings.Contains(lines[1], cell) {
			t.Errorf("no %q in %q", cell, lines[1])
		}
	}
	if column := func(line, cell string) int { return len([]rune(line[:strings.Index(line, cell)])) }; column(lines[0], "bar") != column(lines[1], "≤") {
		t.Errorf("the columns are not aligned:\n%s", out.String())
	}
	if strings.HasSuffix(lines[2], " ") {
		t.Errorf("spaces at the end of %q", lines[2])
	}
}
