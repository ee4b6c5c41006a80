package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// pageBound is what a request may take while the server is away. Each call of the
// session store has its own bound, and the token store's is shorter.
const pageBound = 4 * time.Second

// TestRedisGone: what is in memory only is gone with the server.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "paused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server, store := openRedisServer(t)
			serverGone(t, server, store, how == "paused", how == "paused")
		})
	}
}

// serverGone ends the server of the store, or makes it hang, while people are
// signed in. Nobody is signed out by that, every page says in time what is wrong,
// and a server that has lost everything asks people to sign in, once.
func serverGone(t *testing.T, server server, store []string, paused, keeps bool) {
	s := open(t, append(store, "-auto-login")...)
	v, stranger := s.signedIn(t, "ada"), s.visitor(t, 0)
	callback := callbackOf(t, stranger, "bob")
	v.me(t)
	lose, restore := server.Kill, server.Start
	if paused {
		lose, restore = server.Pause, server.Resume
	}
	ticket := s.ticketOf(t)
	if err := lose(); err != nil {
		t.Fatal(err)
	}
	pagesWithoutServer(t, s, v, stranger, callback)

	// What is in this process is served: to a job, or a request whose session is
	// at hand.
	token, err := s.nodes[0].cache.Partition(ticket.Key()).Token(t.Context(), tokencache.Request{Scopes: []string{apiScope}}, nil)
	if err != nil || token.AccessToken == "" {
		t.Errorf("the token in L1 is not served: %v", err)
	}

	if err := restore(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return stranger.get(t, "/healthz").status == http.StatusOK })
	until(t, func() bool { return v.get(t, "/api/cache").status != http.StatusServiceUnavailable })
	if keeps {
		if got := v.me(t); got.Name != "ada" {
			t.Errorf("got %+v", got)
		}
		return
	}
	for range 2 { // no circle
		if page := v.stays().get(t, "/"); page.status != http.StatusOK || !strings.Contains(page.body, "Sign in") {
			t.Errorf("afterwards the page has status %d: %.300s", page.status, page.body)
		}
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	}
	v.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
	if got := v.me(t); got.Name != "ada" {
		t.Errorf("got %+v", got)
	}
}

// pagesWithoutServer looks at all pages, of a user who is signed in and of one who
// is about to be.
func pagesWithoutServer(t *testing.T, s *site, v, stranger *visitor, callback string) {
	t.Helper()
	timed := func(v *visitor, method, path string) reply {
		t.Helper()
		began := time.Now()
		got := v.stays().do(t, v.request(t, method, path, nil))
		if took := time.Since(began); took > pageBound {
			t.Errorf("%s takes %s", path, took)
		}
		if got.header.Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie", path)
		}
		return got
	}
	for _, path := range []string{"/api/me", "/api/cache", "/events"} {
		timed(v, http.MethodGet, path).want(t, http.StatusServiceUnavailable, "sessions_unavailable")
	}
	timed(v, http.MethodGet, "/healthz").want(t, http.StatusServiceUnavailable, "cache_unavailable")
	for path, method := range map[string]string{
		"/": "GET", "/tokens": "GET", "/signin?login_hint=ada": "GET",
		"/call": "POST", "/expire": "POST", "/signout": "POST",
	} {
		got := timed(v, method, path)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "has not signed you out") || got.header.Get("Retry-After") == "" {
			t.Errorf("%s has status %d: %.300s", path, got.status, got.body)
		}
	}
	for _, path := range []string{callback, "/signin?login_hint=bob"} {
		if got := timed(stranger, http.MethodGet, path); got.status != http.StatusServiceUnavailable || got.header.Get("Location") != "" {
			t.Errorf("a sign-in has status %d, to %q", got.status, got.header.Get("Location"))
		}
	}
	unknown := s.visitor(t, 0)
	if got := timed(unknown, http.MethodGet, "/"); got.status != http.StatusOK {
		t.Errorf("without a cookie: status %d", got.status)
	}
	got := timed(unknown, http.MethodGet, "/signin?login_hint=eve") // nothing to load, and nothing can be saved
	if got.status != http.StatusServiceUnavailable || got.header.Get("Location") != "" || strings.Count(got.body, "</html>") != 1 {
		t.Errorf("a sign-in that cannot be remembered: status %d to %q", got.status, got.header.Get("Location"))
	}
}

// TestRedisSeesNoSecrets looks into everything that Redis holds and hears.
func TestRedisSeesNoSecrets(t *testing.T) {
	t.Parallel()
	server, store := openRedisServer(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = admin.Close() }()
	heard := monitor(t, server.Addr())
	secrets, held := useWithSecrets(t, store, func() string { return dumpOf(t, admin) })
	if err := admin.Set(t.Context(), "marker-control", "marker-control", 0).Err(); err != nil {
		t.Fatal(err)
	}
	held += dumpOf(t, admin)
	there := []string{"marker-control", tokenPrefix, sessionPrefix}
	hasNoSecrets(t, "what Redis holds", held, secrets, there...)
	hasNoSecrets(t, "what Redis hears", heard("marker-control"), secrets, there...)
}

// useWithSecrets has people sign in, do what they can, and sign out. It returns the
// users, accounts, scopes, tokens and cookies, and what the store held meanwhile.
func useWithSecrets(t *testing.T, store []string, dump func() string) (secrets []string, held string) {
	t.Helper()
	s := open(t, append(store, "-auto-login", "-nodes=2")...)
	secrets = []string{"marker-user", clientSecret, "Tasks.Read", "openid", "return-marker", "eyJ"}
	look := func(users ...*visitor) {
		secrets = append(secrets, s.secrets(t)...)
		for _, v := range users {
			for _, c := range v.Jar.Cookies(mustParse(t, v.base)) {
				secrets = append(secrets, c.Value)
			}
		}
		held += dump()
	}
	v, other := s.signedIn(t, "marker-user-one"), s.signedIn(t, "marker-user-two")
	look(v, other)
	v.expire(t)
	v.at(s.nodes[1]).me(t)
	v.post(t, "/call", nil)
	begun := s.visitor(t, 0)
	location := begun.stays().get(t, "/signin?login_hint=marker-user-three&return_to=/return-marker").header.Get("Location")
	secrets = append(secrets, mustParse(t, location).Query().Get("state"))
	look(v, other, begun)
	other.post(t, "/signout", nil)
	look(v, other)
	v.stays().post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusSeeOther, "")
	return secrets, held + dump()
}

// hasNoSecrets looks for secrets in a text, which must have all that is there.
func hasNoSecrets(t *testing.T, what, text string, secrets []string, there ...string) {
	t.Helper()
	if len(secrets) < 20 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for _, must := range there {
		if !strings.Contains(text, must) {
			t.Fatalf("%s is not all here: no %.6s…", what, must)
		}
	}
	for i, secret := range secrets {
		if secret == "" {
			t.Fatal("an empty secret")
		}
		encoded := base64.RawURLEncoding.EncodeToString([]byte(secret))
		if strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) || strings.Contains(text, encoded) {
			t.Errorf("%s has secret %d of %d", what, i, len(secrets))
		}
	}
}

// dumpOf is every key with all that it holds.
func dumpOf(t *testing.T, client *redis.Client) string {
	t.Helper()
	var b strings.Builder
	keys := client.Scan(t.Context(), 0, "*", 100).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		b.WriteString(key + "\n" + client.Dump(t.Context(), key).Val() + "\n")
		switch kind := client.Type(t.Context(), key).Val(); kind {
		case "string":
			b.WriteString(client.Get(t.Context(), key).Val() + "\n")
		case "zset":
			fmt.Fprintln(&b, client.ZRangeWithScores(t.Context(), key, 0, -1).Val())
		case "none": // it has just expired
		default:
			t.Errorf("a key is a %s, which this test does not look into", kind)
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// monitor listens to all commands. What it returns waits for a text, and returns
// what was heard up to it.
func monitor(t *testing.T, addr string) func(last string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if first, err := lines.ReadString('\n'); err != nil || first != "+OK\r\n" {
		t.Fatalf("MONITOR is answered with %q, %v", first, err)
	}
	var heard buffer
	go func() { _, _ = io.Copy(&heard, lines) }()
	return func(last string) string {
		until(t, func() bool { return strings.Contains(heard.String(), last) })
		return heard.String()
	}
}
