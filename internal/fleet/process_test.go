package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"time"
)

// process is a child, seen from the parent.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr lockedBuffer
	exited chan struct{} // closed when it has ended and been waited for
	ended  error         // how; after exited
	events chan string

	mu    sync.Mutex // guards what follows
	in    io.WriteCloser
	next  int
	calls map[int]chan message // of commands that were not answered yet
	down  bool

	killed bool // by its parent
}

var (
	errDown   = errors.New("the process has ended")
	anySecret = regexp.MustCompile(`marker-|eyJ[A-Za-z0-9_-]{8}|\.[0-9]+\.[A-Za-z0-9_-]{43}`)
)

// start starts a process, which ends with the test if it was not killed before.
func start(t *testing.T, s setup) *process {
	t.Helper()
	return startAll(t, []setup{s})[0]
}

// startAll starts processes at once.
func startAll(t *testing.T, setups []setup) []*process {
	t.Helper()
	all, errs := make([]*process, len(setups)), make([]error, len(setups))
	together(len(setups), func(i int) { all[i], errs[i] = spawn(setups[i]) })
	t.Cleanup(func() {
		together(len(all), func(i int) {
			if all[i] != nil {
				all[i].stop(t)
			}
		})
	})
	check(t, errors.Join(errs...))
	return all
}

// spawn starts a process and has it build what the setup says. It returns the
// process also along with an error of the latter.
func spawn(s setup) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: s.Name, exited: make(chan struct{}), events: make(chan string, 16), calls: map[int]chan message{}}
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), childMode+"=1")
	p.cmd.SysProcAttr = dieWithParent()
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.run(out); err != nil {
		return nil, err
	}
	return p, p.call("open", s, nil)
}

// run starts the program. Its end is tied to the thread that made it: so one
// goroutine keeps that thread for as long as the process lives.
func (p *process) run(out io.Reader) error {
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.read(out) // to its end, before Wait closes it
		p.ended = p.cmd.Wait()
		p.end()
	}()
	return <-started
}

// read takes what the process says, until it ends.
func (p *process) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		if anySecret.Match(line) || json.Unmarshal(line, &m) != nil {
			m = message{Event: "said what it must not say"}
		}
		if m.ID == 0 {
			select {
			case p.events <- m.Event:
			default: // nobody has waited for all those before
			}
			continue
		}
		p.mu.Lock()
		call := p.calls[m.ID]
		delete(p.calls, m.ID)
		p.mu.Unlock()
		if call != nil {
			call <- m
		}
	}
}

// end tells whoever waits that there will be no answer.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for id, call := range p.calls {
		delete(p.calls, id)
		close(call)
	}
}

// call sends a command and waits for its answer, which it decodes into result
// unless that is nil. The error is errDown if the process ends before.
func (p *process) call(op string, args, result any) error {
	answered := make(chan message, 1)
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return errDown
	}
	p.next++
	cmd := command{ID: p.next, Op: op, Args: mustJSON(args)}
	p.calls[cmd.ID] = answered
	_, err := p.in.Write(append(mustJSON(cmd), '\n'))
	p.mu.Unlock()
	if err != nil {
		return errDown
	}
	var m message
	ok := true
	select {
	case m, ok = <-answered:
	case <-time.After(patience):
		return fmt.Errorf("%s: %s: no answer", p.name, op)
	}
	switch {
	case !ok:
		return errDown
	case m.Error != "":
		return fmt.Errorf("%s: %s: %s", p.name, op, m.Error)
	case result != nil:
		return json.Unmarshal(m.Result, result)
	}
	return nil
}

// ask has the process ask for tokens.
func (p *process) ask(t *testing.T, a askArgs) *report {
	t.Helper()
	r := &report{}
	if err := p.call("ask", a, r); err != nil {
		t.Error(err)
	}
	return r
}

// kill ends the process with SIGKILL, whatever it does, and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-p.exited
}

// stop ends the process in good order, unless it was killed, and tells what it
// had to complain of: a race, say.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.call("close", nil, nil); err != nil && !errors.Is(err, errDown) {
		t.Error(err)
	}
	_ = p.in.Close()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Errorf("%s: does not end with its input", p.name)
		p.kill(t)
	}
	if p.ended != nil && !p.killed {
		t.Errorf("%s: ended by itself: %v", p.name, p.ended)
	}
	if said := p.stderr.bytes(); len(said) > 0 {
		if anySecret.Match(said) {
			t.Errorf("%s: printed a secret", p.name)
			return
		}
		t.Errorf("%s: printed:\n%s", p.name, said[max(0, len(said)-8<<10):])
	}
	select {
	case e := <-p.events:
		t.Errorf("%s: an event that nobody waited for: %s", p.name, e)
	default:
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// A process does not outlive its parent: it ends with its input.
func TestProcessEndsWithItsInput(t *testing.T) {
	everyBackend(t, false, func(t *testing.T, s service) {
		p := start(t, setup{Name: "process", Backend: s.at()})
		check(t, p.in.Close())
		waitFor(t, p.exited, "the process to end")
		if p.ended != nil {
			t.Error(p.ended)
		}
	})
}
