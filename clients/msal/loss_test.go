package msal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// What MSAL takes for an error, after the server has rotated the refresh token, does not
// lose it: MSAL itself would give nothing away.
func TestOddAnswersLoseNothing(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(body string) string{
		"no ID token": func(b string) string { return strings.Replace(b, `"id_token"`, `"was"`, 1) },
		"an ID token that is no JWT": func(b string) string {
			return strings.Replace(b, `"id_token":"`, `"id_token":"no.jwt.`, 1)
		},
		"client_info that is none": func(b string) string {
			return strings.Replace(b, `"client_info":"`, `"client_info":"%%`, 1)
		},
		"fewer scopes":      func(b string) string { return strings.Replace(b, mineScope, "api://mine/Other", 1) },
		"no access token":   func(b string) string { return strings.Replace(b, `"access_token"`, `"was"`, 1) },
		"an odd lifetime":   func(b string) string { return strings.Replace(b, `"expires_in":`, `"expires_in":-`, 1) },
		"a member too many": func(b string) string { return strings.Replace(b, "{", `{"error_description":["odd"],`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, idp.Options{})
			m := w.app(t)
			ticket := w.signIn(t, m, "anna", nil)
			m.expire(t, ticket.Key())
			w.metadata.answer(altering(t, w, alter)) //nolint:bodyclose // the client closes it
			_, err := m.Token(m.of(t, ticket.Key()), mineScope)
			if errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("the user is signed out: %v", err)
			}
			clean(t, err)
			w.metadata.answer(nil)
			w.refreshed(t, w.app(t), ticket.Key(), mineScope)
		})
	}
}

// altering changes what the token endpoint answers.
func altering(t *testing.T, w *world, alter func(string) string) func(*http.Request) *http.Response {
	t.Helper()
	return func(req *http.Request) *http.Response {
		if req.Method != http.MethodPost {
			return nil
		}
		resp, err := w.metadata.base.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return nil
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Error("the answer could not be read")
		}
		altered := alter(string(b))
		if altered == string(b) {
			t.Error("nothing was altered")
		}
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(altered)), int64(len(altered))
		return resp
	}
}

// A refresh whose caller leaves at any point, and one during which the provider fails at
// any call and for as long as it takes, loses nobody.
func TestRefreshLosesNothing(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"cancelled", "provider"} {
		for n := 1; n <= 8; n++ {
			t.Run(fmt.Sprint(what, " at ", n), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, idp.Options{})
				faults := providertest.NewFaults(w.provider)
				m, err := w.try(t, faults, "app", &msal.Options{
					ClientSecret: appSecret, RedirectURL: callbackURL, Scopes: []string{mineScope},
					HTTPClient: w.http(), DisableInstanceDiscovery: true,
				})
				must(t, err)
				ticket := w.signIn(t, m, "anna", nil)
				m.expire(t, ticket.Key())
				ctx, cancel := context.WithCancel(m.of(t, ticket.Key()))
				defer cancel()
				var steps atomic.Int64
				step := func() bool { return steps.Add(1) == int64(n) }
				faults.Set(func(ctx context.Context, call *providertest.Call) error {
					if failing := step(); failing && what == "provider" {
						faults.Set(providertest.Down())
						return providertest.ErrFault
					} else if failing {
						cancel()
					}
					return call.Do(ctx)
				})
				w.metadata.answer(func(*http.Request) *http.Response {
					if step() && what == "cancelled" {
						cancel()
					}
					return nil
				})
				_, err = m.Token(ctx, mineScope)
				if errors.Is(err, tokencache.ErrNoTokens) {
					t.Errorf("the user is signed out: %v", err)
				}
				faults.Clear()
				w.metadata.answer(nil)
				w.recovers(t, w.app(t), ticket.Key())
			})
		}
	}
}

// recovers tells whether another machine can refresh, once what was kept is stored.
func (w *world) recovers(t *testing.T, m *machine, key tokencache.Key) {
	t.Helper()
	time.Sleep(1500 * time.Millisecond) // for what is stored later
	m.expire(t, key)
	for range 2 {
		m.token(t, m.of(t, key), mineScope)
	}
	if st := w.idp.Stats(); st.RefreshReused != 0 || st.FamiliesRevoked != 0 {
		t.Errorf("%d refresh tokens used twice", st.RefreshReused)
	}
}

// The server's failures are told from the user's, and from mistakes of the program; none
// shows what it should not.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  idp.Fault
		server bool
	}{
		"down":       {idp.Fault{Endpoint: "token", Status: http.StatusServiceUnavailable}, true},
		"throttled":  {idp.Fault{Endpoint: "token", Status: http.StatusTooManyRequests}, true},
		"garbage":    {idp.Fault{Endpoint: "token", Kind: "garbage"}, true},
		"huge":       {idp.Fault{Endpoint: "token", Kind: "huge"}, true},
		"discovery":  {idp.Fault{Endpoint: "discovery", Status: http.StatusServiceUnavailable, Times: 10}, true},
		"discovered": {idp.Fault{Endpoint: "discovery", Kind: "garbage", Times: 10}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, idp.Options{})
			m := w.app(t)
			w.fault(t, c.fault)
			_, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
			var down *tokencache.ServerError
			if errors.As(err, &down) != c.server || err == nil {
				t.Errorf("got %v", err)
			}
			if name == "throttled" && down != nil && down.RetryAfter != time.Second {
				t.Errorf("to be tried again after %v", down.RetryAfter)
			}
			clean(t, err)
			must(t, func() error { w.idp.ClearFault(c.fault.Endpoint); return nil }())
			if _, err = m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://third/.default"}}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// An application whose assertion fails learns why by errors.Is, and nobody is signed out
// by what the error says.
func TestAssertionFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	for name, c := range map[string]struct {
		err  error
		told bool
	}{
		"own":        {errors.New("marker-key-of-the-vault"), true},
		"no tokens":  {tokencache.ErrNoTokens, false},
		"its caller": {context.Canceled, false},
		"the system": {fmt.Errorf("marker-key-file: %w", errors.ErrUnsupported), true},
		"another's":  {errors.Join(errors.ErrUnsupported, tokencache.ErrNoTokens), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := w.machine(t, "first", msal.Options{ClientAssertion: func(context.Context, string) (string, error) { return "", c.err }})
			_, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
			if err == nil || errors.Is(err, c.err) != c.told {
				t.Errorf("got %v", err)
			}
			if errors.Is(err, tokencache.ErrNoTokens) {
				t.Error("it is taken for an answer about the user")
			}
			clean(t, err, "marker-key")
		})
	}
	if _, err := w.app(t).AppToken(t.Context(), tokencache.Request{Resource: "api://second"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a resource: %v", err)
	}
}
