package xoauth2_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// exchange sends bytes to the redirect URL's port, and returns the answer.
func exchange(t *testing.T, back *url.URL, request string) (status int, header http.Header, body string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", back.Host, 5*time.Second)
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }() // huge ones are answered before they are read
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0, nil, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b)
}

// checkPage holds every page to the same headers.
func checkPage(t *testing.T, header http.Header, page string) {
	t.Helper()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		"Content-Type": "text/html; charset=utf-8",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	csp := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q has no %s", csp, want)
		}
	}
	for _, want := range []string{`<html lang="en">`, `name="viewport"`, "color-scheme: light dark", "<h1>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if len(page) > 4<<10 || header.Get("Set-Cookie") != "" || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page of %d bytes with headers %v", len(page), header)
	}
}

// TestBrowserStrangers sends what is not the user's answer. None of it ends the sign-in.
func TestBrowserStrangers(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop("http://localhost"))
	p := newVisitor(t, "anna")
	p.before = func(back *url.URL) {
		good := back.RequestURI()
		change := func(edit func(url.Values)) string {
			q := back.Query()
			edit(q)
			return "/?" + q.Encode()
		}
		host := "Host: " + back.Host + "\r\n"
		for name, tt := range map[string]struct {
			request string
			status  int
		}{
			"favicon":         {"GET /favicon.ico HTTP/1.1\r\n" + host, http.StatusNotFound},
			"another path":    {"GET /x" + strings.TrimPrefix(good, "/") + " HTTP/1.1\r\n" + host, http.StatusNotFound},
			"two slashes":     {"GET /" + good + " HTTP/1.1\r\n" + host, http.StatusNotFound},
			"nothing":         {"GET / HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"no state":        {"GET " + change(del("state")) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"another state":   {"GET " + change(set("state", "marker-guess")) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"guessed refusal": {"GET /?error=access_denied&state=marker-guess HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"refusal alone":   {"GET /?error=access_denied HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"state twice":     {"GET " + change(add("state", "x")) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"code twice":      {"GET " + change(add("code", "x")) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"error twice":     {"GET " + change(func(q url.Values) { q["error"] = []string{"a", "b"} }) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"iss twice":       {"GET " + change(add("iss", "x")) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"huge code":       {"GET " + change(set("code", strings.Repeat("A", 9<<10))) + " HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"huge URL":        {"GET " + good + "&x=" + strings.Repeat("A", 40<<10) + " HTTP/1.1\r\n" + host, http.StatusRequestURITooLong},
			"bad escape":      {"GET " + good + "&x=%zz HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"semicolon":       {"GET " + good + "&x;y HTTP/1.1\r\n" + host, http.StatusBadRequest},
			"HEAD":            {"HEAD " + good + " HTTP/1.1\r\n" + host, http.StatusMethodNotAllowed},
			"POST": {
				"POST / HTTP/1.1\r\n" + host + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
					fmt.Sprint(len(back.RawQuery)) + "\r\n\r\n" + back.RawQuery, http.StatusMethodNotAllowed,
			},
			"OPTIONS":              {"OPTIONS " + good + " HTTP/1.1\r\n" + host + "Origin: https://evil.example\r\n", http.StatusMethodNotAllowed},
			"OPTIONS *":            {"OPTIONS * HTTP/1.1\r\n" + host, http.StatusNotFound},
			"with a body":          {"GET " + good + " HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody", http.StatusBadRequest},
			"rebound name":         {"GET " + good + " HTTP/1.1\r\nHost: evil.example:" + back.Port() + "\r\n", http.StatusMisdirectedRequest},
			"another port":         {"GET " + good + " HTTP/1.1\r\nHost: localhost\r\n", http.StatusMisdirectedRequest},
			"another name of ours": {"GET " + good + " HTTP/1.1\r\nHost: 127.0.0.1:" + back.Port() + "\r\n", http.StatusMisdirectedRequest},
			"absolute":             {"GET http://evil.example" + good + " HTTP/1.1\r\n" + host, http.StatusMisdirectedRequest},
			"CONNECT":              {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n", http.StatusMisdirectedRequest},
		} {
			status, header, page := exchange(t, back, tt.request+"\r\n")
			if status != tt.status {
				t.Errorf("%s: status %d, want %d", name, status, tt.status)
			}
			if name == "HEAD" {
				page = `<html lang="en">name="viewport"color-scheme: light dark<h1>`
			}
			checkPage(t, header, page)
			for _, secret := range []string{"guess", "evil", back.Query().Get("state"), back.Query().Get("code"), "anna"} {
				if strings.Contains(page, secret) {
					t.Errorf("%s: the page echoes the request", name)
				}
			}
		}
		for name, request := range map[string]string{ // what net/http answers itself
			"huge header": "GET " + good + " HTTP/1.1\r\n" + host + "X: " + strings.Repeat("A", 1<<20) + "\r\n\r\n",
			"no Host":     "GET " + good + " HTTP/1.1\r\n\r\n",
			"no HTTP":     "\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
		} {
			if status, _, _ := exchange(t, back, request); status/100 != 4 {
				t.Errorf("%s: status %d", name, status)
			}
		}
		if got := f.idp.Stats().TokenRequests.AuthorizationCode; got != 0 {
			t.Errorf("%d codes were redeemed", got)
		}
	}
	if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open}); err != nil {
		t.Fatal(err)
	}
	if v := p.saw(); !strings.Contains(v.page, "You are signed in.") {
		t.Errorf("the page is %s", v.page)
	}
}

// TestBrowserSlowStrangers holds more connections than are served at once, each of which
// says little. The user's is served as soon as they time out.
func TestBrowserSlowStrangers(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"nothing": "", "a line": "GET / HT", "a body": "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 100000\r\n\r\na",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slowStrangers(t, says)
		})
	}
}

func slowStrangers(t *testing.T, says string) {
	t.Helper()
	f := newDesktop(t, desktop(""))
	p := newVisitor(t, "anna")
	var conns []net.Conn
	p.before = func(back *url.URL) {
		for range 100 {
			conn, err := net.DialTimeout("tcp", back.Host, 5*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, strings.ReplaceAll(says, "HOST", back.Host)); err != nil {
				t.Error(err)
			}
		}
	}
	began := time.Now()
	_, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open})
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	if v := p.saw(); !strings.Contains(v.page, "You are signed in.") {
		t.Errorf("the page is %s", v.page)
	}
	for _, conn := range conns { // all are closed
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := io.Copy(io.Discard, conn)
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("a connection is still open")
		}
		_ = conn.Close()
	}
}

// TestBrowserOnce sends the user's answer several times at once: a page that is loaded
// twice, or restored. The code is redeemed once, and all say how it ended.
func TestBrowserOnce(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	p := newVisitor(t, "anna")
	var group sync.WaitGroup
	f.fault(t, idp.Fault{Endpoint: "token", Delay: 500 * time.Millisecond, Times: 1})
	p.before = func(back *url.URL) {
		for range 8 {
			group.Go(func() {
				if _, _, page, ok := load(p.client, back.String()); !ok || !strings.Contains(page, "You are signed in.") {
					t.Errorf("the page is %q", page)
				}
			})
		}
	}
	if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open}); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if v := p.saw(); !strings.Contains(v.page, "You are signed in.") {
		t.Errorf("the page is %s", v.page)
	}
	if got := f.idp.Stats().TokenRequests.AuthorizationCode; got != 1 {
		t.Errorf("the code was redeemed %d times", got)
	}
}

// TestBrowserTwoTabs: in a second tab somebody else has signed in while the code of the
// first is redeemed. The program knows nothing of them, and the page does not say so.
func TestBrowserTwoTabs(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	anna, bob := newVisitor(t, "anna"), newVisitor(t, "bob")
	f.fault(t, idp.Fault{Endpoint: "token", Delay: time.Second, Times: 1})
	open := func(u string) error {
		bob.before = func(*url.URL) { time.Sleep(300 * time.Millisecond) } // his is the second
		go func() { _ = bob.open(u) }()
		return anna.open(u)
	}
	if _, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: open}); err != nil {
		t.Fatal(err)
	}
	if v := anna.saw(); !strings.Contains(v.page, "You are signed in.") {
		t.Errorf("the first page is %q", v.page)
	}
	if v := bob.saw(); !v.answered || v.status != http.StatusConflict || strings.Contains(v.page, "signed in") {
		t.Errorf("the second page has the status %d: %q", v.status, v.page)
	}
}

// TestBrowserGone: a user who closes the window while the code is redeemed is signed in.
func TestBrowserGone(t *testing.T) {
	t.Parallel()
	f := newDesktop(t, desktop(""))
	p := newVisitor(t, "anna")
	f.fault(t, idp.Fault{Endpoint: "token", Delay: time.Second, Times: 1})
	p.before = func(back *url.URL) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, back.String(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := p.client.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Error("there was a page before the code was redeemed")
		}
		back.Path = "/gone"
	}
	ticket, err := f.client.SignInWithBrowser(within(t), &xoauth2.BrowserOptions{OpenURL: p.open})
	if err != nil {
		t.Fatal(err)
	}
	p.saw()
	if _, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))); err != nil {
		t.Error(err)
	}
}
