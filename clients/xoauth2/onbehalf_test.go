package xoauth2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	firstAPI    = "api://first"
	firstScope  = firstAPI + "/Read"
	secondScope = "api://second/Read"
	thirdScope  = "api://second/Write"
)

// chain is a web app that calls an API, which calls another one.
type chain struct {
	*fixture                 // of the web app
	api      *xoauth2.Client // of the first API
	cache    *tokencache.Cache
}

// apiConfig changes what newChain builds.
type apiConfig struct {
	entra, exchange bool
	idp             idp.Options
}

func newChain(t *testing.T, c apiConfig) *chain {
	t.Helper()
	c.idp.Clients = []idp.Client{
		{ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{"http://127.0.0.1/callback"}},
		{ID: "first", Secret: "marker-first-secret", Audiences: []string{firstAPI}},
	}
	l := &chain{fixture: newFixture(t, config{entra: c.entra, idp: c.idp, scopes: []string{firstScope}})}
	provider, err := memory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.cache, err = tokencache.New(provider, tokencache.Namespace{Issuer: l.fixture.cache.Namespace().Issuer, ClientID: "first"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.cache.Close(context.Background()); _ = provider.Close(context.Background()) })
	hc := httpClient(t)
	if c.exchange {
		hc.Transport = exchangeOnly{hc.Transport}
	}
	l.api = newClient(t, l.cache, &xoauth2.Options{ClientSecret: "marker-first-secret", HTTPClient: hc})
	return l
}

// exchangeOnly is a server that offers token exchange and no JWT bearer grant.
type exchangeOnly struct{ http.RoundTripper }

func (e exchangeOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.RoundTripper.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "openid-configuration") {
		return resp, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	b = bytes.ReplaceAll(b, []byte(`"urn:ietf:params:oauth:grant-type:jwt-bearer"`), []byte(`"none"`))
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, err
}

// incoming is what the web app sends to the API for a user.
func (l *chain) incoming(t *testing.T, user string) string {
	t.Helper()
	tok, err := l.client.Token(l.signIn(t, user), firstScope)
	if err != nil {
		t.Fatal(err)
	}
	return string(tok.AccessToken)
}

// request is the context of a request to the API with that token.
func (l *chain) request(t *testing.T, token string) context.Context {
	t.Helper()
	a, err := tokencache.VerifyAssertion(t.Context(), l.api.Verifier(firstAPI), token)
	if err != nil {
		t.Fatal(err)
	}
	ctx := tokencache.NewAssertionContext(t.Context(), a)
	return tokencache.NewContext(ctx, l.cache.Partition(tokencache.AssertionKey(a)))
}

// Each (token, scopes) is asked for once, in whichever form the server wants it; the
// token of another user is another matter.
func TestOnBehalfOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]apiConfig{"entra": {entra: true}, "plain": {}, "exchange": {exchange: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newChain(t, c)
			anna, bert := l.incoming(t, "anna"), l.incoming(t, "bert")
			var wg sync.WaitGroup
			var mu sync.Mutex
			seen := map[tokencache.Secret]bool{}
			for _, incoming := range []string{anna, bert} {
				for _, scope := range []string{secondScope, thirdScope} {
					for range 8 {
						wg.Go(func() {
							tok, err := l.api.Token(l.request(t, incoming), scope)
							if err != nil {
								t.Error(err)
							}
							mu.Lock()
							defer mu.Unlock()
							seen[tok.AccessToken] = true
						})
					}
				}
			}
			wg.Wait()
			stats := l.idp.Stats()
			asked, most := stats.TokenRequests.OnBehalfOf, stats.OnBehalfOfMost
			if c.exchange {
				asked, most = stats.TokenRequests.TokenExchange, stats.TokenExchangeMost
			}
			if asked != 4 || most != 1 || len(seen) != 4 {
				t.Errorf("%d tokens for two users and two scopes; the server was asked %d times, the most for one thing %d", len(seen), asked, most)
			}
		})
	}
}

// What is refused says so, and what the user can mend is told to the caller.
func TestOnBehalfOfRefused(t *testing.T) {
	t.Parallel()
	l := newChain(t, apiConfig{entra: true, idp: idp.Options{Consent: true}})
	if err := l.idp.Consent("anna", idp.DefaultClientID, firstScope); err != nil {
		t.Fatal(err)
	}
	incoming := l.incoming(t, "anna")
	_, err := l.api.Token(l.request(t, incoming), secondScope)
	var needed *tokencache.InteractionRequiredError
	if !errors.As(err, &needed) || needed.Code != "consent_required" {
		t.Errorf("without consent: %v", err)
	}
	clean(t, err, incoming)
	if _, err := l.idp.RevokeUser("anna"); err != nil {
		t.Fatal(err)
	}
	_, err = l.api.Token(l.request(t, incoming), thirdScope)
	if !errors.Is(err, tokencache.ErrInvalidGrant) {
		t.Errorf("after the user was revoked: %v", err)
	}
	clean(t, err, incoming)
}

// Work goes on when the caller's token has ended, refreshes, and ends when it is
// told to, or when the user signs out everywhere.
func TestStartSession(t *testing.T) {
	t.Parallel()
	for name, entra := range map[string]bool{"entra": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newChain(t, apiConfig{entra: entra})
			request := l.request(t, l.incoming(t, "anna"))
			var work []context.Context
			for _, session := range []string{"marker-1", "marker-2"} {
				ticket, err := l.api.StartSession(request, session, secondScope)
				if err != nil {
					t.Fatal(err)
				}
				work = append(work, tokencache.NewContext(t.Context(), l.cache.Partition(ticket.Key())))
			}
			for _, ctx := range work {
				if tok, err := l.api.Token(ctx, secondScope); err != nil || tok.Source == tokencache.SourceServer {
					t.Errorf("the first token: source %v, %v", tok.Source, err)
				}
				p, _ := l.cache.FromContext(ctx)
				if err := p.Expire(ctx); err != nil {
					t.Fatal(err)
				}
				if tok, err := l.api.Token(ctx, secondScope); err != nil || tok.Source != tokencache.SourceServer {
					t.Errorf("refreshed: source %v, %v", tok.Source, err)
				}
			}
			if got := l.idp.Stats().TokenRequests; got.RefreshToken != 2 || got.OnBehalfOf != 2 {
				t.Errorf("token requests %+v", got)
			}
			if err := l.api.SignOut(work[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := l.api.Token(work[0], secondScope); !errors.Is(err, tokencache.ErrRemoved) {
				t.Errorf("after the end: %v", err)
			}
			if _, err := l.api.Token(work[1], secondScope); err != nil {
				t.Errorf("the other: %v", err)
			}
			if err := l.api.SignOutEverywhere(request); err != nil {
				t.Fatal(err)
			}
			if _, err := l.api.Token(work[1], secondScope); !errors.Is(err, tokencache.ErrRemoved) {
				t.Errorf("after signing out everywhere: %v", err)
			}
		})
	}
}

// A server that issues no refresh token on behalf of anybody has no long-running
// work either.
func TestStartSessionWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	l := newChain(t, apiConfig{exchange: true})
	request := l.request(t, l.incoming(t, "anna"))
	if _, err := l.api.StartSession(request, "marker", secondScope); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if _, err := l.api.StartSession(t.Context(), "marker", secondScope); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("without an incoming token: %v", err)
	}
}

// A partition of one token in a context with another is nobody's.
func TestOnBehalfOfAnother(t *testing.T) {
	t.Parallel()
	l := newChain(t, apiConfig{})
	anna, bert := l.request(t, l.incoming(t, "anna")), l.request(t, l.incoming(t, "bert"))
	p, _ := l.cache.FromContext(anna)
	if _, err := l.api.Token(tokencache.NewContext(bert, p), secondScope); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if got := l.idp.Stats().TokenRequests.OnBehalfOf; got != 0 {
		t.Errorf("the server was asked %d times", got)
	}
}

// The partition ends with the token.
func TestOnBehalfOfEnds(t *testing.T) {
	t.Parallel()
	l := newChain(t, apiConfig{idp: idp.Options{TokenLifetime: 2 * time.Second}})
	incoming := l.incoming(t, "anna")
	request := l.request(t, incoming)
	if _, err := l.api.Token(request, secondScope); err != nil {
		t.Fatal(err)
	}
	a, _ := tokencache.AssertionFromContext(request)
	time.Sleep(time.Until(a.Expires()) + 100*time.Millisecond)
	if _, err := tokencache.VerifyAssertion(t.Context(), l.api.Verifier(firstAPI), incoming); !errors.Is(err, xoauth2.ErrAccessToken) {
		t.Errorf("the token is accepted after its end: %v", err)
	}
	if _, err := l.api.Token(request, secondScope); err == nil {
		t.Error("a request that goes on got another token")
	}
}
