package sql_test

import (
	"bufio"
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	// writerMode makes the test binary a process that writes to the file of that
	// name, and writerName is its own.
	writerMode = "COATCHECK_SQLITE_WRITER"
	writerName = "COATCHECK_SQLITE_WRITER_NAME"
	writers    = 4 // of each process
)

// writerMain writes until its input ends, and tells of each save that was
// acknowledged: the number of the writer, and how many saves it has made to its
// record. The last writer counts in a record that all processes share.
func writerMain() int {
	db, err := stdsql.Open("sqlite", "file:"+os.Getenv(writerMode)+"?"+recommended)
	if err != nil {
		return 2
	}
	db.SetMaxOpenConns(writers)
	db.SetMaxIdleConns(writers)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := sqlprovider.New(ctx, sqlprovider.SQLite(db, nil))
	if err != nil {
		fmt.Println("failed:", err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for err := error(nil); ctx.Err() == nil; {
				var count int
				if count, err = writeNext(p, writerRecord(os.Getenv(writerName), i)); err != nil {
					fmt.Println("failed:", err)
					return
				}
				fmt.Printf("%d %d\n", i, count) // in one write
			}
		})
	}
	wg.Wait()
	if p.Close(context.Background()) != nil || db.Close() != nil {
		return 2
	}
	return 0
}

func writerRecord(process string, i int) tokencache.Name {
	if i == writers-1 {
		process = "all"
	}
	return tokencache.Name{Owner: "owner-of-" + process, Partition: "partition-" + strconv.Itoa(i)}
}

// counted are the contents of a record after so many saves. It is large enough to
// take several pages, and a part of it is no other one.
func counted(count int) string { return strings.Repeat(fmt.Sprintf("%08d", count), 1<<10) }

// stepsOf is how many saves the record tells of; it must be whole.
func stepsOf(r tokencache.Record) (int, error) {
	text := string(r.Sealed)
	if len(text) < 8 {
		return 0, errors.New("a record is cut short")
	}
	count, err := strconv.Atoi(text[:8])
	if err == nil && text != counted(count) {
		err = errors.New("a record is half of one and half of another")
	}
	return count, err
}

// writeNext saves what follows what is stored, as often as others are faster.
func writeNext(p *sqlprovider.Provider, n tokencache.Name) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		old, err := p.Load(ctx, n)
		count, cond := 0, tokencache.IfVersion(old.Version)
		switch {
		case errors.Is(err, tokencache.ErrNotFound):
			cond = tokencache.Condition{}
		case err != nil:
			return 0, err
		default:
			if count, err = stepsOf(old); err != nil {
				return 0, err
			}
		}
		err = p.Save(ctx, n, record(counted(count+1)), cond)
		if !errors.Is(err, tokencache.ErrConflict) {
			return count + 1, err
		}
	}
}

// writer is such a process.
type writer struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}

	mu     sync.Mutex
	acked  [writers]int // the last one of each
	total  int          // of the last writer's
	failed string
}

func startWriter(t *testing.T, file, name string) *writer {
	t.Helper()
	w := &writer{name: name, cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), writerMode+"="+file, writerName+"="+name)
	w.cmd.Stderr = os.Stderr
	stdout, err := w.cmd.StdoutPipe()
	must(t, err)
	w.stdin, err = w.cmd.StdinPipe()
	must(t, err)
	must(t, w.cmd.Start())
	go w.read(stdout)
	t.Cleanup(func() { w.end(t, true) })
	return w
}

func (w *writer) read(from io.Reader) {
	defer close(w.done)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var i, count int
		w.mu.Lock()
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &i, &count); err != nil {
			w.failed = lines.Text()
		} else if w.acked[i] = count; i == writers-1 {
			w.total++
		}
		w.mu.Unlock()
	}
}

// busy waits until every writer of the process has been acknowledged something.
func (w *writer) busy(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "a process writes", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, count := range w.acked {
			if count == 0 && w.failed == "" {
				return false
			}
		}
		return true
	})
}

// end kills the process, or lets it come to an end.
func (w *writer) end(t *testing.T, kill bool) {
	t.Helper()
	if kill {
		_ = w.cmd.Process.Kill()
	}
	_ = w.stdin.Close()
	<-w.done
	if err := w.cmd.Wait(); err != nil && !kill {
		t.Error("a process:", err)
	}
	if w.failed != "" {
		t.Error("a process:", w.failed)
	}
}

// Two processes write to one file, and count together.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	p := machine(t, file)
	a, b := startWriter(t, file, "a"), startWriter(t, file, "b")
	a.busy(t)
	b.busy(t)
	time.Sleep(500 * time.Millisecond)
	a.end(t, false)
	b.end(t, false)
	r, err := p.Load(t.Context(), writerRecord("", writers-1))
	must(t, err)
	count, err := stepsOf(r)
	if must(t, err); count != a.total+b.total {
		t.Errorf("%d and %d were counted, and %d are there", a.total, b.total, count)
	}
	for _, w := range []*writer{a, b} {
		checkWriter(t, p, w, 0)
	}
	sound(t, handle(t, file, 1))
}

// checkWriter wants all that a process was acknowledged, and at most one save more
// of each writer, whose answer it did not live to see.
func checkWriter(t *testing.T, p *sqlprovider.Provider, w *writer, more int) {
	t.Helper()
	for i := range writers - 1 {
		r, err := p.Load(t.Context(), writerRecord(w.name, i))
		must(t, err)
		count, err := stepsOf(r)
		if must(t, err); count < w.acked[i] || count > w.acked[i]+more {
			t.Errorf("process %s, writer %d: %d saves were acknowledged, and %d are there", w.name, i, w.acked[i], count)
		}
	}
}

// Processes are killed while they write, again and again. The file opens each time,
// and is whole; everything that was acknowledged is there, and no half of anything.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	rounds := 20
	if os.Getenv("COATCHECK_STRESS") != "" {
		rounds = 200
	}
	file := newFile(t)
	must(t, newProvider(t, sqlprovider.SQLite(handle(t, file, 1), nil)).Ping(t.Context()))
	shared := 0
	for round := range rounds {
		a, b := startWriter(t, file, "a"), startWriter(t, file, "b")
		a.busy(t)
		b.busy(t)
		time.Sleep(time.Duration(round*7%20) * time.Millisecond)
		a.end(t, true)
		all := []*writer{a, b}
		if round%2 == 0 { // the other one goes on, beside a new one
			c := startWriter(t, file, "c")
			c.busy(t)
			c.end(t, true)
			all = append(all, c)
		}
		b.end(t, true)

		// The first to open the file has to mend it.
		db := handle(t, file, 2)
		sound(t, db)
		p, err := sqlprovider.New(t.Context(), sqlprovider.SQLite(db, nil))
		must(t, err)
		least := shared
		for _, w := range all {
			checkWriter(t, p, w, 1)
			least += w.total
		}
		r, err := p.Load(t.Context(), writerRecord("", writers-1))
		must(t, err)
		count, err := stepsOf(r)
		if must(t, err); count < least || count > least+len(all) {
			t.Errorf("round %d: %d more were counted, and %d are there", round, least-shared, count-shared)
		}
		shared = count
		must(t, p.Close(t.Context()))
		must(t, db.Close())
	}
	t.Logf("%d rounds; %d saves to the shared record", rounds, shared)
}
