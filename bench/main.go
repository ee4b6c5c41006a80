package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// suite is a group of figures that are measured together. More rounds make them
// steadier.
type suite struct {
	name    string
	measure func(rounds int) ([]figure, error)
}

var suites = []suite{
	{"l1", measureL1},
	{"middleware", measureMiddleware},
	{"memory", measureMemory},
	{"steps", measureSteps},
	{"growth", measureGrowth}, // the last, as it leaves the largest heap
}

func main() {
	check := flag.Bool("check", false, "exit with status 1 if a bar is missed")
	rounds := flag.Int("rounds", 75, "rounds of each comparison")
	only := flag.String("only", "", "the one `suite` to run: l1, middleware, memory, steps or growth")
	flag.Parse()

	missed, err := run(os.Stdout, suites, *only, *rounds)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case *check && missed > 0:
		fmt.Fprintf(os.Stderr, "bench: %d missed\n", missed)
		os.Exit(1)
	}
}

// run runs the suites, prints their figures, and returns how many bars are
// missed.
func run(w io.Writer, all []suite, only string, rounds int) (missed int, err error) {
	_, _ = fmt.Fprintf(w, "%s, %d cores, %s\n\n", cpuModel(), runtime.GOMAXPROCS(0), runtime.Version())
	began, found := time.Now(), false
	table := newTable(w)
	for _, s := range all {
		if only != "" && s.name != only {
			continue
		}
		found = true
		figures, err := s.measure(rounds)
		if err != nil {
			return missed, fmt.Errorf("%s: %w", s.name, err)
		}
		missed += countMissed(figures)
		for _, f := range figures {
			table.row(f)
		}
		runtime.GC() // what one suite leaves behind is not the next one's to collect
	}
	if !found {
		return 0, fmt.Errorf("no suite is named %q", only)
	}
	_, _ = fmt.Fprintf(w, "\n%d missed, %s\n", missed, time.Since(began).Round(time.Second))
	return missed, nil
}

// cpuModel is what Linux says of the processor, else the architecture.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}
