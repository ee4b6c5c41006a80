package msal_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The authority's metadata is asked for once, for all requests of a client; while the
// server does not give it any more, what is known is good enough.
func TestMetadataIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	m := w.app(t) // which asks once for itself
	ticket := w.signIn(t, m, "anna", nil)
	var wg sync.WaitGroup
	for _, scope := range []string{firstScope, secondScope, thirdScope, "api://third/Read"} {
		wg.Go(func() {
			if _, err := m.Token(m.of(t, ticket.Key()), scope); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := w.metadata.count("openid-configuration"); n != 2 {
		t.Errorf("the metadata was asked for %d times", n)
	}
	w.fault(t, idp.Fault{Endpoint: "discovery", Status: http.StatusServiceUnavailable, Times: 1000})
	for range 3 {
		w.refreshed(t, m, ticket.Key(), mineScope)
	}
}

// Metadata that MSAL cannot work with is not kept, whatever came before it: the server is
// asked again as soon as it has mended them.
func TestMetadataThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"incomplete":     `{"token_endpoint":"https://login.example/token"}`,
		"another issuer": `{"issuer":"https://login.example/","authorization_endpoint":"https://login.example/a","token_endpoint":"https://login.example/t"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, idp.Options{})
			m := w.app(t)
			w.metadata.answer(func(req *http.Request) *http.Response {
				if !strings.HasSuffix(req.URL.Path, "/openid-configuration") {
					return nil
				}
				return &http.Response{
					StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req,
				}
			})
			app := tokencache.Request{Scopes: []string{"api://second/.default"}}
			if _, err := m.AppToken(t.Context(), app); err == nil {
				t.Error("a token from nowhere")
			}
			w.metadata.answer(nil)
			if _, err := m.AppToken(t.Context(), app); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// With instance discovery, which MSAL does for each of its clients, Microsoft is asked once,
// and a hit in the cache asks nobody.
func TestInstanceDiscovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	w.answersForAll(t)
	m, err := w.try(t, w.provider, "app", &msal.Options{
		ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope}, HTTPClient: w.http(),
	})
	must(t, err)
	ticket := w.signIn(t, m, "anna", nil)
	for range 4 {
		w.refreshed(t, m, ticket.Key(), mineScope)
	}
	for _, scope := range []string{secondScope, thirdScope} {
		m.token(t, m.of(t, ticket.Key()), scope)
	}
	if n := w.metadata.count("instance"); n != 1 {
		t.Errorf("instance discovery was done %d times", n)
	}
	asked := w.metadata.total()
	for range 100 {
		m.token(t, m.of(t, ticket.Key()), secondScope)
	}
	if got := w.metadata.total(); got != asked {
		t.Errorf("%d requests for hits", got-asked)
	}
}

// answersForAll lets the local server answer in place of Microsoft's hosts, which its
// certificate does not name: connections are redirected below TLS.
func (w *world) answersForAll(t *testing.T) {
	t.Helper()
	transport := w.metadata.base.(*http.Transport)
	transport.TLSClientConfig.ServerName = w.idp.Certificate().IPAddresses[0].String()
	host := hostOf(t, w.idp.URL())
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, host)
	}
}

// The application's own tokens come from the region, as far as MSAL is concerned: it asks
// for the metadata there.
func TestRegion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	w.answersForAll(t)
	var mu sync.Mutex
	hosts := map[string]int{}
	w.metadata.answer(func(req *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		hosts[req.URL.Hostname()]++
		return nil
	})
	m := w.machine(t, "first", msal.Options{ClientSecret: firstSecret, AzureRegion: "westeurope"})
	for range 2 {
		_, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
		must(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if hosts["westeurope.127.0.0.1"] == 0 {
		t.Errorf("asked were %v", hosts)
	}
}

// Users' tokens do not: a region has none, and MSAL would ask it all the same.
func TestRegionIsNotForUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	w.answersForAll(t)
	var regional atomic.Int64
	w.metadata.answer(func(req *http.Request) *http.Response {
		if strings.HasPrefix(req.URL.Hostname(), "westeurope.") {
			regional.Add(1)
		}
		return nil
	})
	m := w.machine(t, "app", msal.Options{
		ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope}, AzureRegion: "westeurope",
	})
	ticket := w.signIn(t, m, "anna", nil)
	w.refreshed(t, m, ticket.Key(), mineScope)
	if n := regional.Load(); n != 0 {
		t.Errorf("the region was asked %d times", n)
	}
}

// Nothing that cannot work gets as far as a request.
func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	for name, o := range map[string]*msal.Options{
		"two credentials": {ClientSecret: appSecret, ClientAssertion: func(context.Context, string) (string, error) { return "", nil }},
		"authority":       {ClientSecret: appSecret, Authority: "http://insecure.example/tenant"},
		"no URL":          {Authority: "https://[::1"},
		"redirect":        {ClientSecret: appSecret, RedirectURL: "/callback"},
		"scope":           {ClientSecret: appSecret, Scopes: []string{"two scopes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.HTTPClient = w.http()
			_, err := w.try(t, w.provider, "app", o)
			if err == nil {
				t.Error("accepted")
			}
			clean(t, err)
		})
	}
	if _, err := msal.New(t.Context(), nil, nil); err == nil {
		t.Error("no cache was accepted")
	}
	if _, err := w.try(t, w.provider, "app", &msal.Options{HTTPClient: w.http(), DisableInstanceDiscovery: true}); err != nil {
		t.Error(err) // a public client
	}
}
