package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// childMode makes the test binary the program itself.
const childMode = "COATCHECK_WEBAPP_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // until the test has ended, in any way
			os.Exit(3)
		}()
		main()
		return
	}
	goleak.VerifyTestMain(mainTests{m}, sessionCleaner())
}

// mainTests are all tests. The browser that they share ends with them.
type mainTests struct{ *testing.M }

func (m mainTests) Run() int {
	defer stopChromium()
	return m.M.Run()
}

// sessionCleaner is the goroutine of an scs session manager. Its StopCleanup
// races with its start, so the application leaves it running until the end.
func sessionCleaner() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup")
}

// site is a running application.
type site struct {
	*app
	cfg  config
	logs *buffer
}

// open starts the application on free ports and stops it after the test.
func open(t *testing.T, args ...string) *site {
	t.Helper()
	return openWith(t, 3*time.Second, args...)
}

// openWith is open with another patience.
func openWith(t *testing.T, patience time.Duration, args ...string) *site {
	t.Helper()
	args = append([]string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0"}, args...)
	cfg, err := parseConfig(args, noEnv, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg.patience, cfg.sweepPause = patience, 200*time.Millisecond
	logs := &buffer{}
	a, err := start(t.Context(), cfg, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: cfg.logLevel})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := a.close(ctx); err != nil {
			t.Error("close:", err)
		}
		if password, ok := mustParse(t, cfg.postgresURL).User.Password(); ok && strings.Contains(logs.String(), password) {
			t.Error("the log shows the password of the database")
		}
	})
	return &site{app: a, cfg: cfg, logs: logs}
}

// eachProvider runs a test with the flags of each provider, side by side.
func eachProvider(t *testing.T, test func(t *testing.T, store ...string)) {
	t.Helper()
	t.Run(inMemory, func(t *testing.T) {
		t.Parallel()
		test(t)
	})
	eachShared(t, test)
}

// eachClient runs a test with the flag of each client, side by side.
func eachClient(t *testing.T, test func(t *testing.T, client string)) {
	t.Helper()
	for _, name := range []string{withXOAuth2, withMSAL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, "-client="+name)
		})
	}
}

// eachShared runs a test with the flags of each provider that processes can share.
func eachShared(t *testing.T, test func(t *testing.T, store ...string)) {
	t.Helper()
	for name, start := range map[string]func(*testing.T) []string{
		inRedis:    func(t *testing.T) []string { _, store := openRedisServer(t); return store },
		inPostgres: func(t *testing.T) []string { _, store := openPostgresServer(t); return store },
		inSQLite:   sqliteFlags,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t)...)
		})
	}
}

// server is one that a test can lose.
type server interface {
	Kill() error
	Start() error
	Pause() error
	Resume() error
}

// servers are those of the running tests, by the URL that the flags have.
var servers sync.Map

func remember(t *testing.T, url string, s server) {
	servers.Store(url, s)
	t.Cleanup(func() { servers.Delete(url) })
}

// openRedisServer starts an empty Redis, and returns it with the flags of
// processes that share it.
func openRedisServer(t *testing.T) (*testserver.Redis, []string) {
	t.Helper()
	s := testserver.NewRedis(t)
	remember(t, redisURL(s.Addr()), s)
	return s, redisFlags(t, s.Addr())
}

func redisURL(addr string) string { return "redis://" + addr + "/0" }

func redisFlags(t *testing.T, addr string) []string {
	t.Helper()
	return []string{"-provider=redis", "-redis-url=" + redisURL(addr), newKeysFlag(t)}
}

// openPostgresServer starts an empty PostgreSQL, and returns it with the flags of
// processes that share it.
func openPostgresServer(t *testing.T) (*testserver.Postgres, []string) {
	t.Helper()
	s := testserver.NewPostgres(t)
	remember(t, s.URL(), s)
	return s, []string{"-provider=postgres", "-postgres-url=" + s.URL(), newKeysFlag(t)}
}

// sqliteFlags are those of processes that share a file, which is not there yet. Its
// name has all that means something in a URL.
func sqliteFlags(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?mode=memory#%41&.db")
	return []string{"-provider=sqlite", "-sqlite-path=" + path, newKeysFlag(t)}
}

// newKeysFlag names a new file of keys.
func newKeysFlag(t *testing.T) string {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := tokencache.CreateKeyFile(keys); err != nil {
		t.Fatal(err)
	}
	return "-keys-file=" + keys
}

func noEnv(string) string { return "" }

func (s *site) idp() *idp.Server { return s.issuer.server }

// loseStore ends the token store, and where that is outside the sessions too.
func (s *site) loseStore(t *testing.T) {
	t.Helper()
	lose := func() error { return s.store.provider.Close(t.Context()) }
	if found, ok := servers.Load(s.cfg.redisURL + s.cfg.postgresURL); ok {
		lose = found.(server).Kill
	} else if s.store.name == inSQLite {
		lose = func() error { return s.store.release(t.Context()) }
	}
	if err := lose(); err != nil {
		t.Fatal(err)
	}
}

// fault makes an endpoint of the identity server misbehave.
func (s *site) fault(t *testing.T, f idp.Fault) {
	t.Helper()
	if f.Times == 0 {
		f.Times = 1000
	}
	if err := s.idp().Fault(f); err != nil {
		t.Fatal(err)
	}
}

// refreshes is how many times the identity server was asked for a refresh.
func (s *site) refreshes() int { return int(s.idp().Stats().TokenRequests.RefreshToken) }

// visitor is one browser without a screen: a client with cookies.
type visitor struct {
	*http.Client
	base string
}

// visitor returns a new browser at node k.
func (s *site) visitor(t *testing.T, k int) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	if s.issuer != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: s.issuer.roots}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{
		Client: &http.Client{Transport: transport, Jar: jar, Timeout: 30 * time.Second},
		base:   s.nodes[k].url,
	}
}

// signedIn returns a browser in which the user has signed in; it needs
// -auto-login.
func (s *site) signedIn(t *testing.T, user string) *visitor {
	t.Helper()
	v := s.visitor(t, 0)
	if got := v.get(t, "/signin?login_hint="+url.QueryEscape(user)); got.status != http.StatusOK {
		t.Fatalf("signing in %s: status %d: %.200s", user, got.status, got.body)
	}
	return v
}

// ticketOf returns a ticket out of the sessions: the user's, if there is one user.
func (s *site) ticketOf(t *testing.T) (found tokencache.Ticket) {
	t.Helper()
	err := s.nodes[0].sessions.Iterate(t.Context(), func(ctx context.Context) error {
		if ticket, err := tokencache.ParseTicket(s.nodes[0].web.Ticket(ctx)); err == nil {
			found = ticket
		}
		return nil
	})
	if err != nil || found.Account() == "" {
		t.Fatal("nobody is signed in:", err)
	}
	return found
}

// at returns the same browser at another node.
func (v *visitor) at(n *node) *visitor { return &visitor{Client: v.Client, base: n.url} }

// stays returns the same browser, but it follows no redirects.
func (v *visitor) stays() *visitor {
	c := *v.Client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{Client: &c, base: v.base}
}

// reply is a response that has been read.
type reply struct {
	status int
	header http.Header
	body   string
}

func (v *visitor) get(t *testing.T, path string) reply {
	t.Helper()
	return v.do(t, v.request(t, http.MethodGet, path, nil))
}

func (v *visitor) post(t *testing.T, path string, form url.Values) reply {
	t.Helper()
	return v.do(t, v.request(t, http.MethodPost, path, form))
}

func (v *visitor) request(t *testing.T, method, path string, form url.Values) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

func (v *visitor) do(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// me calls /api/me, which must answer 200.
func (v *visitor) me(t *testing.T) answer {
	t.Helper()
	got := v.get(t, "/api/me")
	if got.status != http.StatusOK {
		t.Fatalf("/api/me: status %d: %s", got.status, got.body)
	}
	return decode[answer](t, got.body)
}

// expire marks the user's access tokens as expired.
func (v *visitor) expire(t *testing.T) {
	t.Helper()
	if got := v.post(t, "/api/expire", nil); got.status != http.StatusNoContent {
		t.Fatalf("/api/expire: status %d: %s", got.status, got.body)
	}
}

// soon repeats a request until it is answered like this: another node's change
// has to arrive first, long before a copy in L1 is too old.
func (v *visitor) soon(t *testing.T, path string, status int, code string) {
	t.Helper()
	got := v.get(t, path)
	for end := time.Now().Add(3 * time.Second); got.status != status && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got = v.get(t, path)
	}
	got.want(t, status, code)
}

// until waits for something to be so.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%.80q is not JSON: %v", body, err)
	}
	return v
}

// want checks a status and, unless it is empty, the JSON error code.
func (r reply) want(t *testing.T, status int, code string) {
	t.Helper()
	if r.status != status {
		t.Errorf("got status %d, want %d: %.300s", r.status, status, r.body)
		return
	}
	if code == "" {
		return
	}
	if got := decode[map[string]any](t, r.body)["error"]; got != code {
		t.Errorf("got error %v, want %s", got, code)
	}
}

// buffer collects what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
