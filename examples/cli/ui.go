package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ui is what the user sees on standard error. It is safe for concurrent use.
type ui struct {
	mu       sync.Mutex
	w        io.Writer
	json     bool // one JSON object a line, and only what matters
	quiet    bool
	terminal bool
}

func (u *ui) write(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, _ = io.WriteString(u.w, text) // nobody is left to tell
}

// say tells what is going on.
func (u *ui) say(format string, a ...any) {
	if !u.json && !u.quiet {
		u.write(fmt.Sprintf(format, a...) + "\n")
	}
}

// show tells what the user has to know: as an event with --json.
func (u *ui) show(event map[string]any, format string, a ...any) {
	if !u.json {
		u.write(fmt.Sprintf(format, a...) + "\n")
		return
	}
	b, err := json.Marshal(event)
	if err != nil {
		b = []byte(`{"event":"error"}`) // strings and times can be written
	}
	u.write(string(b) + "\n")
}

// warn tells what the user should know, although the command goes on.
func (u *ui) warn(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	u.show(map[string]any{"event": "warning", "message": text}, "%s", text)
}

// How often progress is shown: on a terminal in one line, elsewhere in a line each.
const (
	quickly = time.Second
	slowly  = 15 * time.Second
)

// progress shows how long something has been waited for, and when that will end, until
// the function that it returns is called.
func (u *ui) progress(text string, ends time.Time) (stop func()) {
	if u.json || u.quiet {
		return func() {}
	}
	begun, every := time.Now(), slowly
	if u.terminal {
		every = quickly
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			u.write(u.line(text, begun, ends))
			select {
			case <-tick.C:
			case <-done:
				if u.terminal {
					u.write("\r\x1b[K")
				}
				return
			}
		}
	}()
	return func() { close(done); <-gone }
}

func (u *ui) line(text string, begun, ends time.Time) string {
	now := time.Now()
	text = fmt.Sprintf("%s: %s, ends in %s (Ctrl-C to give up)", text, clock(now.Sub(begun)), clock(ends.Sub(now)))
	if u.terminal {
		return "\r" + text + "\x1b[K" // to the end of the line
	}
	return text + "\n"
}

// clock writes a duration as minutes and seconds.
func clock(d time.Duration) string {
	s := int64(max(d, 0).Round(time.Second) / time.Second)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// isTerminal tells whether somebody looks at what is written there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// log shows warnings of the library in the words of the program.
func (u *ui) log() *slog.Logger { return slog.New(warnings{u}) }

type warnings struct{ *ui }

func (h warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h warnings) Handle(_ context.Context, r slog.Record) error {
	h.warn("Warning: %s", trimmed(r.Message))
	return nil
}

func (h warnings) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h warnings) WithGroup(string) slog.Handler      { return h }
