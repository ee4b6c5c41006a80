package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	const secret = "marker secret/ü"
	for name, tt := range map[string]struct {
		methods []string
		secret  string
		basic   bool
	}{
		"nothing announced": {nil, secret, true},
		"both":              {[]string{"client_secret_post", "client_secret_basic"}, secret, true},
		"post":              {[]string{"client_secret_post", "private_key_jwt"}, secret, false},
		"neither":           {[]string{"private_key_jwt"}, secret, true},
		"public":            {[]string{"none"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "")
			if tt.methods != nil {
				f.metadata["token_endpoint_auth_methods_supported"] = tt.methods
			}
			cache, c := f.client(t, &xoauth2.Options{ClientSecret: tt.secret})
			f.mustSignIn(t, cache, c, nil, nil)
			r := f.last(t)
			id, _, basic := r.BasicAuth()
			if basic != tt.basic || basic && (id != idp.DefaultClientID || r.PostForm.Has("client_secret")) {
				t.Errorf("basic %v as %q, secret in the form %v", basic, id, r.PostForm.Has("client_secret"))
			}
			if !basic && (r.PostForm.Get("client_id") != idp.DefaultClientID || r.PostForm.Get("client_secret") != tt.secret) {
				t.Error("the client is not in the form")
			}
			if r.PostForm.Get("code_verifier") == "" {
				t.Error("no PKCE")
			}
		})
	}
}

func TestOfflineAccess(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	f.metadata["scopes_supported"] = []string{"openid", "profile"}
	_, c := f.client(t, nil)
	authURL, _, err := c.BeginSignIn(nil)
	if err != nil || strings.Contains(authURL, "offline_access") {
		t.Errorf("%s, %v: a scope that the server does not have", authURL, err)
	}
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	good := xoauth2.Options{}
	for name, tt := range map[string]struct {
		metadata map[string]any
		options  xoauth2.Options
		says     string
	}{
		"another issuer":    {map[string]any{"issuer": "https://evil.example"}, good, "calls itself"},
		"a template":        {map[string]any{"issuer": "https://evil.example/{tenantid}/v2.0"}, good, "calls itself"},
		"no token endpoint": {map[string]any{"token_endpoint": ""}, good, "token_endpoint"},
		"no keys":           {map[string]any{"jwks_uri": "/keys"}, good, "jwks_uri"},
		"odd revocation":    {map[string]any{"revocation_endpoint": "ftp://x/"}, good, "revocation_endpoint"},
		"MACs only":         {map[string]any{"id_token_signing_alg_values_supported": []string{"HS256", "none"}}, good, "no algorithm"},
		"relative redirect": {nil, xoauth2.Options{RedirectURL: "/callback"}, "RedirectURL"},
		"fragment":          {nil, xoauth2.Options{RedirectURL: "https://a/#b"}, "RedirectURL"},
		"scopes in one":     {nil, xoauth2.Options{Scopes: []string{"a b"}}, "scope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "")
			for k, v := range tt.metadata {
				f.metadata[k] = v
			}
			tt.options.HTTPClient = httpClient(t)
			_, err := xoauth2.New(t.Context(), newCache(t, f.issuer(), nil), &tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want it to say %q", err, tt.says)
			}
		})
	}
	if _, err := xoauth2.New(t.Context(), nil, nil); err == nil {
		t.Error("no error for a nil cache")
	}
}

func TestDiscoveryFails(t *testing.T) {
	t.Parallel()
	redirect := httptest.NewServer(http.RedirectHandler("https://evil.example/", http.StatusFound))
	t.Cleanup(redirect.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	t.Cleanup(html.Close)
	for name, issuer := range map[string]string{"redirect": redirect.URL, "refused": closed.URL, "html": html.URL} {
		var down *tokencache.ServerError
		_, err := xoauth2.New(t.Context(), newCache(t, issuer, nil), &xoauth2.Options{HTTPClient: httpClient(t)})
		if !errors.As(err, &down) {
			t.Errorf("%s: got %v, want a ServerError", name, err)
		}
	}
	for _, issuer := range []string{"login.example", "ftp://a/", "https://a/?b", "https:///x"} {
		if _, err := xoauth2.New(t.Context(), newCache(t, issuer, nil), nil); err == nil {
			t.Errorf("%s: no error", issuer)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := xoauth2.New(ctx, newCache(t, html.URL, nil), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
