package coatcheck_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// listen starts an identity server with the clients of a web app and two APIs.
func listen(t *testing.T) *idp.Server {
	t.Helper()
	server, err := idp.Listen("127.0.0.1:0", &idp.Options{AutoLogin: true, Clients: []idp.Client{
		{ID: "web", Secret: "marker-web", RedirectURIs: []string{"http://127.0.0.1/callback"}},
		{ID: "orders", Secret: "marker-orders", Audiences: []string{"api://orders"}},
		{ID: "prices", Secret: "marker-prices", Audiences: []string{"api://prices"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.Background()) })
	return server
}

// clientOf is a client with a cache in memory.
func clientOf(t *testing.T, server *idp.Server, id, redirectURL string) (*tokencache.Cache, *xoauth2.Client) {
	t.Helper()
	provider, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: server.URL(), ClientID: id}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := xoauth2.New(t.Context(), cache, &xoauth2.Options{
		ClientSecret: "marker-" + id, RedirectURL: redirectURL, Scopes: []string{"api://orders/Orders.Read"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cache.Close(context.Background())
		_ = provider.Close(context.Background())
	})
	return cache, client
}

// site is a web app with the sign-out of the README. At / it shows a token.
func site(t *testing.T, server *idp.Server) *httptest.Server {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	cache, client := clientOf(t, server, "web", "http://"+web.Listener.Addr().String()+"/callback")
	sessions := &scs.SessionManager{
		Store: memstore.NewWithCleanupInterval(0), Codec: scs.GobCodec{}, Lifetime: time.Hour,
		Cookie: scs.SessionCookie{Name: "session", Path: "/", SameSite: http.SameSiteLaxMode},
	}
	handlers, err := client.Web(sessions, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /signin", handlers.SignIn)
	mux.HandleFunc("GET /callback", handlers.Callback)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		token, err := client.Token(r.Context())
		if err != nil {
			http.Error(w, "nobody", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, string(token.AccessToken))
	})
	all := http.NewServeMux()
	all.Handle("/", sessions.LoadAndSave(middleware.LoadAndSave(cache, middleware.SessionAccount(handlers.Ticket))(mux)))
	out := newSignOut(cache, client, handlers, sessions)
	all.Handle("/signout", out)
	all.Handle("/backchannel-logout", out)
	web.Config.Handler = all
	web.Start()
	t.Cleanup(web.Close)
	return web
}

func send(t *testing.T, browser *http.Client, method, target string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// signIn returns a browser that is signed in, and its token.
func signIn(t *testing.T, web *httptest.Server) (browser *http.Client, token string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	browser = &http.Client{Jar: jar, Transport: transport}
	status, token := send(t, browser, http.MethodGet, web.URL+"/signin?login_hint=ada", nil)
	if status != http.StatusOK {
		t.Fatalf("signing in: status %d", status)
	}
	return browser, token
}

// The sign-out of the README ends the tokens of the user, and another site cannot
// make a browser do it.
func TestReadmeSignOut(t *testing.T) {
	t.Parallel()
	web := site(t, listen(t))
	browser, _ := signIn(t, web)
	other, _ := signIn(t, web)
	for _, test := range []struct {
		origin string
		status int
	}{{"https://evil.test", http.StatusForbidden}, {web.URL, http.StatusUnauthorized}} {
		if status, _ := send(t, browser, http.MethodGet, web.URL, nil); status != http.StatusOK {
			t.Errorf("before a sign-out from %s: status %d", test.origin, status)
		}
		status, _ := send(t, browser, http.MethodPost, web.URL+"/signout", http.Header{"Origin": {test.origin}})
		if status != test.status { // of the page that it leads to
			t.Errorf("%s: status %d, want %d", test.origin, status, test.status)
		}
	}
	for _, b := range []*http.Client{browser, other} {
		if status, _ := send(t, b, http.MethodGet, web.URL, nil); status != http.StatusUnauthorized {
			t.Errorf("after signing out: status %d", status)
		}
	}
	if status, _ := send(t, browser, http.MethodPost, web.URL+"/backchannel-logout", nil); status != http.StatusBadRequest {
		t.Errorf("a logout request without a token: status %d", status)
	}
}

// The API of the README calls the next one in the name of its caller, and nobody
// else.
func TestReadmeAPI(t *testing.T) {
	t.Parallel()
	server := listen(t)
	_, token := signIn(t, site(t, server))

	pricesCache, pricesClient := clientOf(t, server, "prices", "")
	prices := httptest.NewServer(middleware.RequireBearer(pricesCache, pricesClient.Verifier("api://prices"), nil)(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a, _ := tokencache.AssertionFromContext(r.Context())
			_, _ = io.WriteString(w, "prices for "+strings.Join(a.Scopes(), " "))
		})))
	defer prices.Close()
	cache, client := clientOf(t, server, "orders", "")
	handler, err := newAPI(cache, client, prices.URL)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(handler)
	defer api.Close()

	caller := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		status, body := send(t, caller, http.MethodGet, api.URL, http.Header{"Authorization": {"Bearer " + token}})
		if status != http.StatusOK || body != "prices for Prices.Read" {
			t.Errorf("status %d: %s", status, body)
		}
	}
	if n := server.Stats().TokenRequests.OnBehalfOf; n != 1 {
		t.Errorf("the server was asked %d times on behalf of the user, want once", n)
	}
	for _, header := range []http.Header{nil, {"Authorization": {"Bearer " + token[:len(token)-4] + url.QueryEscape("AAAA")}}} {
		if status, _ := send(t, caller, http.MethodGet, api.URL, header); status != http.StatusUnauthorized {
			t.Errorf("status %d, want 401", status)
		}
	}
}
