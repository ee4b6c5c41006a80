package xoauth2_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestAppToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	defaults := tokencache.Request{Scopes: []string{"api://coatcheck-example/.default"}}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			tok, err := f.client.AppToken(t.Context(), defaults)
			if err != nil {
				t.Error(err)
				return
			}
			if status, body := f.me(t, tok); status != http.StatusOK {
				t.Errorf("the API answered %d %s", status, body)
			}
		})
	}
	wg.Wait()
	ask := func(req tokencache.Request) {
		t.Helper()
		if _, err := f.client.AppToken(t.Context(), req); err != nil {
			t.Error(err)
		}
	}
	ask(tokencache.Request{Scopes: []string{"api://x/b", "api://x/a"}})
	ask(tokencache.Request{Scopes: []string{"api://x/a", "api://x/b", "api://x/a"}}) // the same set
	ask(tokencache.Request{Resource: "api://y"})
	ask(tokencache.Request{Resource: "api://y"})
	if n := f.idp.Stats().TokenRequests.ClientCredentials; n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestAppTokenErrors(t *testing.T) {
	t.Parallel()
	f, public := newFixture(t, config{}), newFixture(t, config{public: true})
	if _, err := f.client.AppToken(t.Context(), tokencache.Request{}); err == nil {
		t.Error("no error for a request of nothing")
	}
	if _, err := public.client.AppToken(t.Context(), tokencache.Request{Resource: "api://y"}); err == nil {
		t.Error("no error for a public client")
	}
	wrong := newClient(t, f.cache, &xoauth2.Options{ClientSecret: "marker-wrong-secret", HTTPClient: httpClient(t)})
	_, err := wrong.AppToken(t.Context(), tokencache.Request{Resource: "api://y"})
	var refused *xoauth2.ProtocolError
	if !errors.As(err, &refused) || refused.Code != "invalid_client" || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want invalid_client", err)
	}
	clean(t, err, "marker")
}

func TestSignOutRevokes(t *testing.T) {
	t.Parallel()
	for name, everywhere := range map[string]bool{"here": false, "everywhere": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{})
			ctx := f.signIn(t, "anna")
			tok, err := f.client.Token(ctx)
			if err != nil {
				t.Fatal(err)
			}
			signOut := f.client.SignOut
			if everywhere {
				signOut = f.client.SignOutEverywhere
			}
			if err := signOut(ctx); err != nil {
				t.Fatal(err)
			}
			if s := f.idp.Stats(); s.Revocations != 1 || s.FamiliesRevoked != 1 {
				t.Errorf("stats %+v, want one revocation", s)
			}
			if status, _ := f.me(t, tok); status != http.StatusUnauthorized {
				t.Errorf("the API still takes the token: %d", status)
			}
			if _, err := f.client.Token(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("got %v, want ErrNoTokens", err)
			}
		})
	}
}

func TestSignOutReportsServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	ctx := f.signIn(t, "anna")
	f.fault(t, idp.Fault{Endpoint: "revoke", Status: 503})
	var down *tokencache.ServerError
	if err := f.client.SignOut(ctx); !errors.As(err, &down) {
		t.Errorf("got %v, want a ServerError", err)
	}
	if _, err := f.client.Token(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want ErrNoTokens", err)
	}
}

func TestEndSessionURL(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	hc := httpClient(t)
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := hc.Get(f.client.EndSessionURL("http://127.0.0.1:4711/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Location"); got != "http://127.0.0.1:4711/" {
		t.Errorf("%d to %q", resp.StatusCode, got)
	}
	u, err := url.Parse(f.client.EndSessionURL(""))
	if err != nil || u.Query().Has("post_logout_redirect_uri") || !strings.HasSuffix(u.Path, "/logout") {
		t.Errorf("%v, %v", u, err)
	}
}
