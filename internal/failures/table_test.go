package failures_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// row is what was measured of one failure.
type row struct {
	failure   string
	seen      *record
	recovered time.Duration
	lost      int
	reused    int
}

// table is all rows, in the order of the failures.
type table struct {
	mu   sync.Mutex
	rows map[int]*row
}

func (x *table) set(i int, r *row) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rows == nil {
		x.rows = map[int]*row{}
	}
	x.rows[i] = r
}

// print logs the table, which go test shows with -v. Whoever reads it compares
// durations: they are in milliseconds.
func (x *table) print(t *testing.T) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "failure\tvalid copy\tread\trefresh\tsign-in\tsign-out\trecovered\tlost\treused\tmost frequent error")
	last := -1
	for i := range x.rows {
		last = max(last, i)
	}
	for i := range last + 1 {
		r := x.rows[i]
		if r == nil {
			continue
		}
		s := r.seen
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", r.failure,
			s.cell(hit), s.cell(read), s.cell(refresh, forced), s.cell(signIn), s.cell(signOut),
			millis(r.recovered), r.lost, r.reused, s.often())
	}
	_ = w.Flush()
	t.Log("longest requests in ms, and how many of all were told of an outage\n\n" + text.String())
}

// cell is the longest request of some kinds, and the part of them that failed.
func (r *record) cell(of ...kind) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var longest time.Duration
	count, failed := 0, 0
	for _, k := range of {
		longest = max(longest, r.longest[k])
		count += r.count[k]
		failed += r.failed[k]
	}
	text := millis(longest)
	switch {
	case failed == 0:
	case count == 1:
		text += " (failed)"
	default:
		text += fmt.Sprintf(" (%d %%)", (100*failed+count-1)/count)
	}
	return text
}

func millis(d time.Duration) string { return fmt.Sprint(d.Round(time.Millisecond).Milliseconds()) }
