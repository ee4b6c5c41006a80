package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestProgress: one line on a terminal, which is gone in the end; elsewhere a line now and
// then; and none for those who do not want it.
func TestProgress(t *testing.T) {
	t.Parallel()
	const wait = "Waiting: "
	for _, tt := range []struct {
		name string
		ui   *ui
		want string
	}{
		{"terminal", &ui{terminal: true}, "\r" + wait + "0:00, ends in 1:00 (Ctrl-C to give up)\x1b[K" +
			"\r" + wait + "0:01, ends in 0:59 (Ctrl-C to give up)\x1b[K" + "\r" + wait + "0:02, ends in 0:58 (Ctrl-C to give up)\x1b[K" + "\r\x1b[K"},
		{"file", &ui{}, wait + "0:00, ends in 1:00 (Ctrl-C to give up)\n"},
		{"quiet", &ui{quiet: true, terminal: true}, ""},
		{"json", &ui{json: true, terminal: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				u := tt.ui
				u.w = &out
				stop := u.progress("Waiting", time.Now().Add(time.Minute))
				time.Sleep(2500 * time.Millisecond)
				stop()
				if diff := cmp.Diff(tt.want, out.String()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestPrintable: what a server calls somebody does not reach the terminal as it is.
func TestPrintable(t *testing.T) {
	t.Parallel()
	a := tokencache.Account{ID: "i\n1", Username: "ada\x1b[2J\u202e"}
	if got := label(a); got != "ada\ufffd[2J\ufffd" {
		t.Errorf("got %q", got)
	}
	a.Username = ""
	if got := label(a); got != "i\ufffd1" {
		t.Errorf("got %q", got)
	}
	who := identity{Account: account{Username: "a\x1b", Name: "b\x1b"}, Issuer: "c"}
	if got := strings.Join(who.lines(time.Now()), "\n"); strings.Contains(got, "\x1b") {
		t.Errorf("got %q", got)
	}
}

// TestListed: accounts that have one name are told apart.
func TestListed(t *testing.T) {
	t.Parallel()
	got := listed([]tokencache.Account{{ID: "1", Username: "ada"}, {ID: "2", Username: "Ada"}, {ID: "3", Username: "bob"}})
	if got != "1, 2, bob" {
		t.Errorf("got %q", got)
	}
}

// TestOpenWith are the forms that $BROWSER has.
func TestOpenWith(t *testing.T) {
	t.Parallel()
	for browsers, want := range map[string]bool{
		"true": true, "no-such-program:true": true, "false:test %s = URL": true, "test URL =": true,
		"": false, ":": false, "false": false, "no-such-program": false, "test %s = other": false,
	} {
		if err := openWith(browsers, "URL"); (err == nil) != want || err != nil && !noBrowser(err) {
			t.Errorf("%q: got %v", browsers, err)
		}
	}
}

// TestIsTerminal: neither a file nor nowhere is one.
func TestIsTerminal(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, w := range []io.Writer{null, file, &bytes.Buffer{}} {
		if isTerminal(w) {
			t.Errorf("%T is a terminal", w)
		}
	}
}

// TestPrintFails: an answer that cannot be written is a failure.
func TestPrintFails(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), w.Close()
	var said bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, w, &said); code == exitOK {
		t.Errorf("exit code %d, said %q", code, said.String())
	}
}
