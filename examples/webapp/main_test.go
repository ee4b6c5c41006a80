package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestRun starts the program, uses it, and stops it in the middle of a stream.
func TestRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	var out, logs buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-nodes", "2", "-auto-login", "-idp-addr=127.0.0.1:0", "--addr", "127.0.0.1:0", "-log-level=debug"}, noEnv, &out, &logs)
	}()
	var opened [][]string
	for deadline := time.Now().Add(10 * time.Second); len(opened) < 2 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		opened = regexp.MustCompile(`Open (http://127\.0\.0\.1:\d+)\n`).FindAllStringSubmatch(out.String(), -1)
	}
	if len(opened) != 2 {
		t.Fatalf("got the output %q and the log %q", out.String(), logs.String())
	}
	v := (&site{app: &app{nodes: []*node{{url: opened[1][1]}}}}).visitor(t, 0)
	v.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
	v.me(t)
	events := v.stream(t)
	began := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	for range events { // ends
	}
	if !strings.Contains(logs.String(), "tokencache: hit") {
		t.Errorf("the log does not tell of the cache: %s", logs.String())
	}
	v.CloseIdleConnections()
	goleak.VerifyNone(t, before, sessionCleaner())
}

// TestStartFails checks that a start which fails leaves nothing running.
func TestStartFails(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := open(t)
	taken := strings.TrimPrefix(s.nodes[0].url, "http://")
	tests := map[string][]string{
		"the node's port is taken":     {"-idp-addr=127.0.0.1:0", "-addr=" + taken},
		"the server's port is taken":   {"-idp-addr=" + taken, "-addr=127.0.0.1:0"},
		"no identity server answers":   {"-issuer=http://127.0.0.1:1", "-addr=127.0.0.1:0"},
		"another server answers there": {"-issuer=" + s.nodes[0].url, "-addr=127.0.0.1:0"},
	}
	for name, args := range tests {
		err := run(t.Context(), args, noEnv, io.Discard, io.Discard)
		var usage *usageError
		if err == nil || errors.As(err, &usage) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := s.close(t.Context()); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before, sessionCleaner())
}

// TestStopWithAnUnfinishedRequest: a client that never finishes its request does
// not take the time that refreshes need, and is no failure.
func TestStopWithAnUnfinishedRequest(t *testing.T) {
	t.Parallel()
	s := open(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.nodes[0].url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST /signout HTTP/1.1\r\nHost: 127.0.0.1\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nevery"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until it is being read
	ctx, cancel := context.WithTimeout(t.Context(), closeTimeout)
	defer cancel()
	if err := s.close(ctx); err != nil {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Error("stopping took all the time there is")
	}
}

// TestCookieOfAnotherProcess: cookies ignore ports, so processes on one host have
// the same one if they share the sessions, and only then.
func TestCookieOfAnotherProcess(t *testing.T) {
	t.Parallel()
	name := func(provider, addr, url string) string {
		return sessionCookie(&config{provider: provider, addr: addr, url: url}).Name
	}
	one, other := "127.0.0.1:8080", "127.0.0.1:8090"
	if name(inMemory, one, "") == name(inMemory, other, "") {
		t.Error("in memory, the cookies of two processes have one name")
	}
	if name(inRedis, one, "") != name(inRedis, other, "") {
		t.Error("in Redis, the cookies of two processes have different names")
	}
	if sessionCookie(&config{url: "http://localhost:1"}).Secure || !sessionCookie(&config{url: "https://example.com"}).Secure {
		t.Error("cookies are secure without TLS, or not with it")
	}
}

// TestSharedIssuer runs a second application at the first one's identity
// server, under both of its issuers.
func TestSharedIssuer(t *testing.T) {
	t.Parallel()
	first := open(t, "-auto-login")
	for _, issuer := range []string{first.idp().URL(), first.idp().TenantURL()} {
		second := open(t, "-issuer="+issuer)
		v := second.signedIn(t, "ada")
		if got := v.me(t); got.Name != "ada" {
			t.Errorf("%s: got %+v", issuer, got)
		}
		v.expire(t)
		v.me(t)
		v.post(t, "/api/revoke", nil).want(t, http.StatusNoContent, "")
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	}
}
