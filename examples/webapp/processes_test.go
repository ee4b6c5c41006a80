package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// process is the program in a process of its own.
type process struct {
	cmd    *exec.Cmd
	url    string // of its only node
	issuer string
	logs   *buffer
}

// startProcess runs the program on free ports, and stops it after the test.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	p := &process{logs: &buffer{}}
	p.cmd = exec.Command(executable, append([]string{"-addr=127.0.0.1:0", "-idp-addr=127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), childMode+"=1")
	p.cmd.Stdout, p.cmd.Stderr = &out, p.logs
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(os.Interrupt)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the process ends with %v: %s", err, p.logs)
		}
		_ = stdin.Close()
	})
	told := regexp.MustCompile(`Identity server: (\S+)\n(?:.*\n)*Open (\S+)\n`)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if match := told.FindStringSubmatch(out.String()); match != nil {
			p.issuer, p.url = match[1], match[2]
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process says %q, and logs %q", out.String(), p.logs)
		}
	}
}

// visitor returns a new browser at the process.
func (p *process) visitor(t *testing.T) *visitor {
	t.Helper()
	return (&site{app: &app{nodes: []*node{{url: p.url}}}}).visitor(t, 0)
}

// refreshes asks the identity server of the process.
func (p *process) refreshes(t *testing.T) int {
	t.Helper()
	got := p.visitor(t).atURL("").get(t, p.issuer+"/control/stats")
	return decode[struct {
		TokenRequests struct {
			RefreshToken int `json:"refresh_token"`
		} `json:"token_requests"`
	}](t, got.body).TokenRequests.RefreshToken
}

func (v *visitor) atURL(url string) *visitor { return &visitor{Client: v.Client, base: url} }

// TestTwoProcesses signs in at one process, goes on at another, and signs out at
// either.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	eachShared(t, twoProcesses)
}

func twoProcesses(t *testing.T, store ...string) {
	first := startProcess(t, append(store, "-auto-login")...)
	second := startProcess(t, append(store, "-issuer="+first.issuer)...)
	if second.issuer != first.issuer || second.url == first.url {
		t.Fatalf("the processes are %+v and %+v", first, second)
	}
	for _, order := range [][2]*process{{first, second}, {second, first}} {
		one := order[0].visitor(t)
		one.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
		other := one.atURL(order[1].url)
		if got := other.me(t); got.Name != "ada" || got.Source != "provider" {
			t.Errorf("at the other process: %+v", got)
		}
		if got := other.me(t); got.Source != "l1" {
			t.Errorf("again: source %s, want l1", got.Source)
		}

		// What one changes, the other sees at once: nothing old is in its L1.
		other.expire(t)
		before := first.refreshes(t)
		until(t, func() bool {
			one.me(t)
			return first.refreshes(t) > before
		})
		other.me(t)
		if got := first.refreshes(t); got != before+1 {
			t.Errorf("%d refreshes, want 1", got-before)
		}

		// A second browser keeps its session when the first signs out everywhere.
		second := order[1].visitor(t)
		second.get(t, "/signin?login_hint=ada").want(t, http.StatusOK, "")
		second.me(t)
		one.stays().post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusSeeOther, "")
		for _, v := range []*visitor{one, other, second, second.atURL(one.base)} {
			v.soon(t, "/api/me", http.StatusUnauthorized, "sign_in_required")
		}
	}
}

// TestStreamHearsOfAnotherProcess: the stream of an old sign-in ends when another
// process signs the user out, and tells nothing of the next sign-in, but that it
// was looked for.
func TestStreamHearsOfAnotherProcess(t *testing.T) {
	t.Parallel()
	eachShared(t, streamHearsOfAnotherProcess)
}

func streamHearsOfAnotherProcess(t *testing.T, store ...string) {
	first := open(t, append(store, "-auto-login")...)
	second := open(t, append(store, "-issuer="+first.issuer.url)...)
	v := first.signedIn(t, "ada")
	elsewhere := v.at(second.nodes[0])
	elsewhere.me(t)
	lines := elsewhere.stream(t)
	v.expire(t)
	for _, e := range upTo(t, lines, tokencache.EventInvalidation, 1) {
		if e.Text == "" {
			t.Errorf("got %+v", e)
		}
	}
	elsewhere.me(t) // refreshes: the stream goes on
	upTo(t, lines, tokencache.EventSave, 1)
	v.stays().post(t, "/signout", url.Values{"everywhere": {"1"}}).want(t, http.StatusSeeOther, "")
	began := time.Now()
	again := first.signedIn(t, "ada").at(second.nodes[0])
	again.me(t)
	deadline := time.After(10 * time.Second)
	for {
		select {
		case line, open := <-lines:
			if !open {
				return
			}
			e := decode[event](t, line)
			if e.At.After(began) && e.Kind != tokencache.EventInvalidation && e.Kind != tokencache.EventLoad {
				t.Errorf("the old stream tells of a later %s", e.Kind)
			}
		case <-deadline:
			t.Fatal("the stream goes on after its sign-in was removed")
		}
	}
}

// TestRestart: whoever was signed in is still, by the cookie, when the application
// has been started anew, and its database too.
func TestRestart(t *testing.T) {
	t.Parallel()
	eachShared(t, func(t *testing.T, store ...string) {
		identity := open(t, "-auto-login") // goes on meanwhile
		args := append(store, "-issuer="+identity.issuer.url)
		before := open(t, args...)
		ada, bob := before.signedIn(t, "ada"), before.signedIn(t, "bob")
		bob.post(t, "/signout", nil).want(t, http.StatusOK, "")
		if err := before.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found, ok := servers.Load(before.cfg.postgresURL); ok {
			if err := errors.Join(found.(server).Kill(), found.(server).Start()); err != nil {
				t.Fatal(err)
			}
		}
		after := open(t, args...)
		if got := ada.at(after.nodes[0]).me(t); got.Name != "ada" || got.Source != "provider" {
			t.Errorf("afterwards: %+v", got)
		}
		ada.at(after.nodes[0]).expire(t)
		if got := ada.at(after.nodes[0]).me(t); got.Source != "server" {
			t.Errorf("afterwards, the refresh token is not spent: source %s", got.Source)
		}
		bob.at(after.nodes[0]).get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	})
}

// balancer sends requests to the nodes in turn, as docker-compose.yml's does.
func balancer(t *testing.T) (address string, nodes *atomic.Pointer[[]string], served func() []int) {
	t.Helper()
	nodes = &atomic.Pointer[[]string]{}
	var mu sync.Mutex
	turn, counts := 0, []int{0, 0}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		mu.Lock()
		defer mu.Unlock()
		list := *nodes.Load()
		counts[turn%len(list)]++
		r.Out.URL.Scheme, r.Out.URL.Host = "http", list[turn%len(list)] // Host stays the browser's
		turn++
	}}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL, nodes, func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(counts)
	}
}

// TestBehindABalancer is what docker-compose.yml starts: two processes behind one
// address, and no request knows which of them it gets.
func TestBehindABalancer(t *testing.T) {
	t.Parallel()
	eachShared(t, behindABalancer)
}

func behindABalancer(t *testing.T, store ...string) {
	address, nodes, served := balancer(t)
	first := open(t, append(store, "-auto-login", "-url="+address)...)
	second := open(t, append(store, "-issuer="+first.issuer.url, "-url="+address+"/")...)
	list := []string{first.nodes[0].listener.Addr().String(), second.nodes[0].listener.Addr().String()}
	nodes.Store(&list)

	v := first.visitor(t, 0)
	if v.base != address {
		t.Fatalf("the node's address is %s, want the balancer's", v.base)
	}
	for _, user := range []string{"ada", "bob"} { // each sign-in begins at one node and ends at the other
		page := v.get(t, "/signin?login_hint="+user)
		if page.status != http.StatusOK || !strings.Contains(page.body, "Hello, "+user) {
			t.Fatalf("signing in leads to status %d: %.200s", page.status, page.body)
		}
		lines := v.stream(t)
		v.get(t, "/healthz").want(t, http.StatusOK, "")
		for range 4 {
			if got := v.me(t); got.Name != user {
				t.Errorf("got %+v", got)
			}
		}
		v.expire(t)
		v.expire(t)
		before := first.idp().Stats().TokenRequests.RefreshToken
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { v.me(t) })
		}
		wg.Wait()
		if got := first.idp().Stats().TokenRequests.RefreshToken - before; got != 1 {
			t.Errorf("%d refreshes, want 1", got)
		}
		upTo(t, lines, tokencache.EventHit, 1) // it arrives while the stream is open
		notice := v.post(t, "/call", nil)      // one node writes it, the other shows it
		if !strings.Contains(notice.body, "The API knows you as "+user+".") {
			t.Errorf("the notice is lost: %.200s", notice.body)
		}
		v.post(t, "/signout", nil).want(t, http.StatusOK, "")
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
		v.get(t, "/api/me").want(t, http.StatusUnauthorized, "sign_in_required")
	}
	if got := served(); min(got[0], got[1]) < 10 {
		t.Errorf("the nodes have served %v requests", got)
	}
}
