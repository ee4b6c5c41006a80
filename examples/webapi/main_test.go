package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestRun starts the program, uses it, and stops it.
func TestRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, logs buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"-auto-login", "-idp-addr=127.0.0.1:0", "--addr", "127.0.0.1:0", "-orders-addr=127.0.0.1:0", "-prices-addr=127.0.0.1:0", "-log-level=debug",
		}, noEnv, &out, &logs)
	}()
	var opened []string
	for deadline := time.Now().Add(10 * time.Second); opened == nil && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		opened = regexp.MustCompile(`Open (http://127\.0\.0\.1:\d+)\n`).FindStringSubmatch(out.String())
	}
	if opened == nil {
		t.Fatalf("got the output %q and the log %q", out.String(), logs.String())
	}
	v := (&site{app: &app{web: &web{program: &program{server: &server{url: opened[1]}}}}}).visitor(t)
	v.get(t, "/signin?login_hint=ada").says(t, http.StatusOK, "Hello, ada")
	checkHops(t, v.chain(t).Hops, "ada")
	began := time.Now()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if !strings.Contains(logs.String(), "tokencache: hit") || !strings.Contains(logs.String(), `program="orders API"`) {
		t.Error("the log does not tell of the caches")
	}
	v.CloseIdleConnections()
	goleak.VerifyNone(t, before, sessionCleaner())
}

// TestStartFails checks that a start which fails leaves nothing running.
func TestStartFails(t *testing.T) {
	before := goleak.IgnoreCurrent()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free := []string{"-addr=127.0.0.1:0", "-orders-addr=127.0.0.1:0", "-prices-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0"}
	for _, last := range [][]string{
		{"-addr=" + taken.Addr().String()},
		{"-prices-addr=" + taken.Addr().String()},
		{"-idp-addr=" + taken.Addr().String()},
		{"-issuer=http://127.0.0.1:1"},
		{"-provider=redis", "-redis-url=redis://:marker-password@127.0.0.1:1/0", "-keys-file=" + newKeys(t)},
		{"-provider=redis", "-redis-url=redis://127.0.0.1:1/0", "-keys-file=" + filepath.Join(t.TempDir(), "none")},
	} {
		err := run(t.Context(), append(free, last...), noEnv, io.Discard, io.Discard)
		var usage *usageError
		if err == nil || errors.As(err, &usage) || strings.Contains(err.Error(), "marker-") {
			t.Errorf("%.20s: the error is %t", last[0], err != nil)
		}
	}
	goleak.VerifyNone(t, before, sessionCleaner())
}

// newKeys makes a file of keys as the program does, which does it once.
func newKeys(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	var out bytes.Buffer
	args := []string{"-new-keys", "-keys-file", path}
	if err := run(t.Context(), args, noEnv, &out, io.Discard); err != nil || !strings.Contains(out.String(), path) {
		t.Fatalf("got %v, and %q", err, out.String())
	}
	if err := run(t.Context(), args, noEnv, &out, io.Discard); err == nil {
		t.Error("keys were overwritten")
	}
	return path
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := map[string]func(*config) bool{
		"":                            func(c *config) bool { return c.addr == "127.0.0.1:8060" && c.provider == inMemory },
		"-addr=localhost:9000":        func(c *config) bool { return c.addr == "localhost:9000" },
		"-issuer=https://login.test/": func(c *config) bool { return c.issuer == "https://login.test/" },
		"-provider=redis -redis-url=rediss://u:p@redis.test/1 -keys-file=k": func(c *config) bool { return c.provider == inRedis },
	}
	for args, want := range good {
		if c, err := parseConfig(strings.Fields(args), noEnv, io.Discard); err != nil || !want(&c) {
			t.Errorf("%s: got %v", args, err)
		}
	}
	env := func(name string) string {
		return map[string]string{"COATCHECK_ADDR": "127.0.0.1:1", "COATCHECK_AUTO_LOGIN": "true"}[name]
	}
	if c, err := parseConfig([]string{"-addr=127.0.0.1:2"}, env, io.Discard); err != nil || c.addr != "127.0.0.1:2" || !c.autoLogin {
		t.Errorf("with variables: got %v", err)
	}
	for _, args := range []string{
		"-nonsense", "redis://:marker-p@h", "-addr=0.0.0.0:80", "-orders-addr=127.0.0.1", "-prices-addr=127.0.0.1:70000", "-idp-addr=example.com:80",
		"-issuer=http://login.test", "-issuer=x", "-token-lifetime=1ms", "-token-lifetime=x", "-provider=postgres", "-provider=redis",
		"-provider=redis -redis-url=redis://127.0.0.1:6379/0", "-redis-url=redis://127.0.0.1", "-keys-file=k", "-new-keys",
		"-provider=redis -keys-file=k -redis-url=redis://:marker-p@redis.test", "-provider=redis -keys-file=k -redis-url=rediss://:marker-p@h/x",
		"-provider=redis -keys-file=k -redis-url=rediss://:marker-p%zz@h/0",
	} {
		_, err := parseConfig(strings.Fields(args), noEnv, io.Discard)
		var usage *usageError
		if !errors.As(err, &usage) || strings.Contains(err.Error(), "marker-") {
			t.Errorf("%.24s: it is taken, or the error shows a password", args)
		}
	}
	broken := func(string) string { return "marker-nonsense" }
	if _, err := parseConfig(nil, broken, io.Discard); err == nil || strings.Contains(err.Error(), "marker-") {
		t.Error("a variable that is not valid is taken, or shown")
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out buffer
	if err := run(t.Context(), []string{"-help"}, noEnv, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Usage: webapi [flags]", "-orders-addr address", "COATCHECK_REDIS_URL", "(default 127.0.0.1:8060)"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the help has no %q", text)
		}
	}
}

// TestNoSecretIsShown looks for tokens, client secrets and users in all that the
// programs log, and for tokens and secrets in all that they answer, also when it goes
// wrong.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "Xenia")
	secrets := []string{webSecret, ordersSecret, pricesSecret, s.token(t, ordersScope), s.idToken(t)}
	var said strings.Builder
	look := func(more ...reply) {
		for _, got := range append(more,
			v.get(t, "/"), v.get(t, "/api/chain"), v.get(t, "/orders"), v.get(t, "/callback?state=x"),
			v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+s.token(t, ordersScope)),
			v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+s.token(t, pricesScope)),
		) {
			said.WriteString(got.body)
			_ = got.header.Write(&said)
		}
	}
	look(v.bearer(t, s.prices.program, "GET", "/prices", "Bearer "+s.token(t, pricesScope)))
	v.post(t, "/demand", nil)
	look(v.get(t, "/api/chain"))
	v.get(t, "/orders").says(t, http.StatusOK, ordersAudience) // after a step up
	look()
	if err := s.prices.server.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	look()
	for range 2 {
		said.WriteString(v.post(t, "/revoke", nil).body)
		said.WriteString(v.post(t, "/signout", url.Values{"everywhere": {"1"}}).body)
	}
	logs := s.logs.String()
	if !strings.Contains(logs, "prices_unavailable") || !strings.Contains(logs, "sign-out") {
		t.Fatal("the log does not tell of what happened")
	}
	for i, secret := range secrets {
		if strings.Contains(said.String()+logs, secret) {
			t.Errorf("secret %d is shown", i)
		}
	}
	token := regexp.MustCompile(`eyJ[\w-]{8,}\.`)
	if token.MatchString(said.String()+logs) || strings.Contains(logs, "marker-") {
		t.Error("a token is shown, or a code")
	}
	if strings.Contains(strings.ToLower(logs), "xenia") {
		t.Error("the log names a user")
	}
}
