package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/middleware"
)

// The handler gets the very ResponseWriter of the server, whoever's request it is.
func TestResponseWriterIsTheServers(t *testing.T) {
	t.Parallel()
	cache := newCache(t, newStore(t), "https://login.example")
	ticket := newAuthority().signIn(t, cache, "alice")
	otherwise := func(_ http.ResponseWriter, _ *http.Request, err error) { t.Errorf("no tokens: %v", err) }
	for name, around := range map[string]func(http.Handler) http.Handler{
		"somebody": middleware.LoadAndSave(cache, prepared(ticket.Key())),
		"nobody":   middleware.LoadAndSave(cache, nobody),
		"with tokens": func(next http.Handler) http.Handler {
			return middleware.LoadAndSave(cache, prepared(ticket.Key()))(middleware.RequireTokens(cache, otherwise)(next))
		},
	} {
		var outer, inner http.ResponseWriter
		h := around(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { inner = w }))
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			outer = w
			h.ServeHTTP(w, r)
		}))
		do(t, s, newRequest(t, s, nil, nil))
		if inner == nil || inner != outer {
			t.Errorf("%s: the handler got a %T, the server gave a %T", name, inner, outer)
		}
	}
}

// Each ability of http.ResponseController does what it says.
func TestResponseController(t *testing.T) {
	t.Parallel()
	cache, server := newCache(t, newStore(t), "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	past := time.Unix(1, 0)
	abilities := map[string]func(*http.ResponseController, http.ResponseWriter, *http.Request) error{
		"SetReadDeadline": func(c *http.ResponseController, w http.ResponseWriter, r *http.Request) error {
			if err := c.SetReadDeadline(past); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("reading after the deadline: %w", err)
			}
			return nil
		},
		"SetWriteDeadline": func(c *http.ResponseController, w http.ResponseWriter, _ *http.Request) error {
			if err := c.SetWriteDeadline(past); err != nil {
				return err
			}
			// More than the server buffers: Flush of scs tells no error.
			if _, err := w.Write(make([]byte, 1<<16)); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("writing after the deadline: %w", err)
			}
			return nil
		},
		"Hijack": func(c *http.ResponseController, _ http.ResponseWriter, _ *http.Request) error {
			conn, _, err := c.Hijack()
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
	for _, site := range sites(t, cache, ticket) {
		for name, use := range abilities {
			used := make(chan error, 1)
			s := serve(t, site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := ask(r, cache, server, "read"); err != nil {
					t.Error(err)
				}
				used <- use(http.NewResponseController(w), w, r)
			})))
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			length := 4
			if name == "SetReadDeadline" {
				length = 5 // the rest never comes, so that there is something to wait for
			}
			_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: test\r\nCookie: %s\r\nContent-Length: %d\r\n\r\nbody", site.cookie, length)
			if err := <-used; err != nil {
				t.Errorf("%s: %s: %v", site.name, name, err)
			}
			_ = conn.Close()
		}
	}
}

// The handler answers each line before the next is sent (EnableFullDuplex), and asks
// for a token in between.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	cache, server := newCache(t, newStore(t), "https://login.example"), newAuthority()
	for _, site := range sites(t, cache, server.signIn(t, cache, "alice")) {
		s := serve(t, site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			if err := errors.Join(control.EnableFullDuplex(), control.Flush()); err != nil {
				t.Errorf("%s: %v", site.name, err)
				return
			}
			for lines := bufio.NewScanner(r.Body); lines.Scan(); {
				token, err := ask(r, cache, server, lines.Text())
				fmt.Fprintln(w, token, err)
				if err := control.Flush(); err != nil {
					t.Errorf("%s: %v", site.name, err)
				}
			}
		})))
		body, send := io.Pipe()
		r := newRequest(t, s, site.cookie, body)
		context.AfterFunc(r.Context(), func() { _ = send.Close() })
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		read := bufio.NewReader(resp.Body)
		for n := range 3 {
			scope := fmt.Sprintf("%s%d", site.name, n)
			_, _ = fmt.Fprintln(send, scope)
			if got, err := read.ReadString('\n'); err != nil || !strings.HasPrefix(got, "alice: "+scope) || !strings.HasSuffix(got, "<nil>\n") {
				t.Errorf("%s: got %q, %v", site.name, got, err)
			}
		}
		_ = send.Close()
		_ = resp.Body.Close()
	}
}

// readerFrom counts the files that are handed to the server as files, which is what
// lets it use sendfile.
type readerFrom struct {
	http.ResponseWriter
	files int
}

func (w *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			w.files++
		}
	}
	return w.ResponseWriter.(io.ReaderFrom).ReadFrom(src)
}

func TestServeContent(t *testing.T) {
	t.Parallel()
	cache, server := newCache(t, newStore(t), "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	path := filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	h := middleware.LoadAndSave(cache, prepared(ticket.Key()))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := ask(r, cache, server, "read"); err != nil {
			t.Error(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = f.Close() }()
		http.ServeContent(w, r, "file.bin", time.Now(), f)
	}))
	files := make(chan int, 1)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &readerFrom{ResponseWriter: w}
		h.ServeHTTP(counted, r)
		files <- counted.files
	}))
	for _, tt := range []struct {
		ranges string
		status int
		want   []byte
	}{
		{"", http.StatusOK, content},
		{"bytes=100-299", http.StatusPartialContent, content[100:300]},
	} {
		r := newRequest(t, s, nil, nil)
		r.Method = http.MethodGet
		if tt.ranges != "" {
			r.Header.Set("Range", tt.ranges)
		}
		got := do(t, s, r)
		if got.StatusCode != tt.status || got.body != string(tt.want) || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %s, %d bytes, Cache-Control %q", tt.ranges, got.Status, len(got.body), got.Header.Get("Cache-Control"))
		}
		if n := <-files; n != 1 {
			t.Errorf("%q: the server was given %d files, want 1", tt.ranges, n)
		}
	}
}
