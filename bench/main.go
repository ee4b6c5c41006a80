package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
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
	{"redis", measureRedis},
	{"redis-growth", measureRedisGrowth}, // its heap is the server's
	{"postgres", measurePostgres},
	{"postgres-growth", measurePostgresGrowth},
	{"growth", measureGrowth}, // the last, as it leaves the largest heap
}

func main() {
	check := flag.Bool("check", false, "exit with status 1 if a bar is missed, or not measured because its server is not installed")
	rounds := flag.Int("rounds", 75, "rounds of each comparison")
	only := flag.String("only", "", "the one `suite` to run: l1, middleware, memory, steps, redis, redis-growth, postgres, postgres-growth or growth")
	flag.Parse()

	o, err := run(os.Stdout, suites, *only, *rounds)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if failure := o.failure(); *check && failure != "" {
		fmt.Fprintln(os.Stderr, "bench:", failure)
		os.Exit(1)
	}
}

// outcome is what became of a run.
type outcome struct {
	missed  int      // bars
	skipped []string // suites whose server is not installed
}

// failure says why the bars are not held, empty if they are.
func (o outcome) failure() string {
	var why []string
	if o.missed > 0 {
		why = append(why, fmt.Sprintf("%d missed", o.missed))
	}
	if len(o.skipped) > 0 {
		why = append(why, "not measured: "+strings.Join(o.skipped, ", ")+": install redis-server and PostgreSQL")
	}
	return strings.Join(why, "; ")
}

// run runs the suites and prints their figures. A suite whose server is not
// installed is skipped, and the output says so.
func run(w io.Writer, all []suite, only string, rounds int) (o outcome, err error) {
	_, _ = fmt.Fprintf(w, "%s, %d cores, %s\n\n", cpuModel(), runtime.GOMAXPROCS(0), runtime.Version())
	began, found := time.Now(), false
	table := newTable(w)
	for _, s := range all {
		if only != "" && s.name != only {
			continue
		}
		found = true
		figures, err := s.measure(rounds)
		if errors.Is(err, exec.ErrNotFound) {
			o.skipped = append(o.skipped, s.name)
			_, _ = fmt.Fprintf(w, "%s: skipped, as its server is not installed\n", s.name)
			continue
		}
		if err != nil {
			return o, fmt.Errorf("%s: %w", s.name, err)
		}
		o.missed += countMissed(figures)
		for _, f := range figures {
			table.row(f)
		}
		runtime.GC() // what one suite leaves behind is not the next one's to collect
	}
	if !found {
		return o, fmt.Errorf("no suite is named %q", only)
	}
	_, _ = fmt.Fprintf(w, "\n%d missed, %d skipped, %s\n", o.missed, len(o.skipped), time.Since(began).Round(time.Second))
	return o, nil
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
