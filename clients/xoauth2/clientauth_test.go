package xoauth2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const assertion = "marker-header.marker-claims.marker-signature"

// told is a ClientAssertion that remembers what for it was asked.
type told struct{ audiences []string }

func (a *told) assert(_ context.Context, audience string) (string, error) {
	a.audiences = append(a.audiences, audience)
	return assertion, nil
}

// TestAssertionForm: the assertion is the only proof in a request, is asked for
// each time, and always names the token endpoint.
func TestAssertionForm(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	f.metadata["revocation_endpoint"] = f.URL + "/revoke"
	f.metadata["device_authorization_endpoint"] = f.URL + "/device"
	f.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"} // what it takes besides is not said
	a := &told{}
	cache, c := f.client(t, &xoauth2.Options{ClientAssertion: a.assert})
	ctx := f.mustSignIn(t, cache, c, nil, nil)
	check := func(path string) {
		t.Helper()
		r := f.last(t)
		form := r.PostForm
		if form.Get("client_assertion") != assertion || form.Get("client_id") != idp.DefaultClientID || r.URL.Path != path ||
			form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Errorf("the request to %s lacks the assertion", r.URL.Path)
		}
		if r.Header.Get("Authorization") != "" || form.Has("client_secret") {
			t.Error("the client authenticates in two ways")
		}
	}
	check("/token")
	if _, err := c.Token(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	check("/token")
	if _, err := c.AppToken(ctx, tokencache.Request{Resource: "api://y"}); err != nil {
		t.Fatal(err)
	}
	check("/token")
	if err := c.SignOut(ctx); err != nil {
		t.Fatal(err)
	}
	check("/revoke")
	if want := strings.Repeat(f.URL+"/token ", 4); strings.Join(a.audiences, " ")+" " != want {
		t.Errorf("audiences %q, want four times the token endpoint", a.audiences)
	}
}

// TestAssertionTenant: another tenant's token endpoint would refuse an assertion
// for this one's.
func TestAssertionTenant(t *testing.T) {
	t.Parallel()
	const home = "11111111-2222-3333-4444-555555555555"
	f := newFake(t, home)
	a := &told{}
	_, c := f.client(t, &xoauth2.Options{ClientAssertion: a.assert})
	f.answer(reply{body: tokens(nil)})
	for _, tenant := range []string{"", "contoso.example"} {
		if _, err := c.AppToken(t.Context(), tokencache.Request{Resource: "api://y", Tenant: tenant}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{f.URL + "/" + home + "/oauth2/v2.0/token", f.URL + "/contoso.example/oauth2/v2.0/token"}
	if fmt.Sprint(a.audiences) != fmt.Sprint(want) {
		t.Errorf("audiences %q, want %q", a.audiences, want)
	}
}

func TestAssertionFails(t *testing.T) {
	t.Parallel()
	cause := errors.New("marker-cause of marker-key")
	text := func(s string) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return s, nil }
	}
	fails := func(err error) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return assertion, err }
	}
	for name, tt := range map[string]struct {
		assert func(context.Context, string) (string, error)
		is     error
		says   string
	}{
		"an error":         {fails(cause), cause, "Options.ClientAssertion failed"},
		"empty":            {text(""), nil, "returned something else"},
		"a line break":     {text(assertion + "\n"), nil, "returned something else"},
		"two parts":        {text("marker-a.marker-b"), nil, "returned something else"},
		"no signature":     {text("marker-a.marker-b."), nil, "returned something else"},
		"encrypted":        {text("marker-a.b.c.d.e"), nil, "returned something else"},
		"other characters": {text("marker-a.b.c+/="), nil, "returned something else"},
		"huge":             {text("marker-a.b." + strings.Repeat("c", 16<<10)), nil, "returned something else"},
		// What it says of other tokens is not about this user's.
		"no tokens":     {fails(fmt.Errorf("x: %w", tokencache.ErrInvalidGrant)), nil, "failed"},
		"interaction":   {fails(&tokencache.InteractionRequiredError{Code: "login_required"}), nil, "failed"},
		"invalid_grant": {fails(&xoauth2.ProtocolError{Code: "invalid_grant"}), nil, "failed"},
		"its own time":  {fails(context.DeadlineExceeded), nil, "failed"},
		"its own end":   {fails(context.Canceled), nil, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "")
			cache, c := f.client(t, nil)
			ctx := f.mustSignIn(t, cache, c, nil, nil)
			before := len(f.requests)
			broken := newClient(t, cache, &xoauth2.Options{ClientAssertion: tt.assert, HTTPClient: httpClient(t)})
			_, err := broken.Token(ctx, "other")
			if err == nil || !strings.Contains(err.Error(), tt.says) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v, want it to say %q", err, tt.says)
			}
			clean(t, err, "marker")
			var interaction *tokencache.InteractionRequiredError
			if errors.Is(err, tokencache.ErrNoTokens) || errors.As(err, &interaction) ||
				errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is taken for an answer about the user, or the end of the context", err)
			}
			if len(f.requests) != before {
				t.Error("a request was sent")
			}
			// A token that is still good is given out all the same, and the refresh
			// token is as good as before.
			if _, err := broken.Token(ctx); err != nil {
				t.Error(err)
			}
			if _, err := c.Token(ctx, "other"); err != nil {
				t.Error(err)
			}
		})
	}
}

// memoryTransport reaches the fake without a network, so that time may be the
// bubble's.
type memoryTransport struct{ f *fake }

func (m memoryTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return m.f.roundTrip(r), nil
}

// TestAssertionHangs: a function that waits for its context does not wait forever,
// nor longer than its caller.
func TestAssertionHangs(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	hang := func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", fmt.Errorf("marker: %w", ctx.Err())
	}
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, newCache(t, f.issuer(), nil), &xoauth2.Options{
			ClientAssertion: hang, HTTPClient: &http.Client{Transport: memoryTransport{f}},
		})
		ask := func(ctx context.Context) (time.Duration, error) {
			began := time.Now()
			_, err := c.AppToken(ctx, tokencache.Request{Resource: "api://y"})
			clean(t, err, "marker")
			return time.Since(began), err
		}
		if took, err := ask(t.Context()); err == nil || took != 10*time.Second || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v", err, took)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if took, err := ask(short); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("got %v after %v, want the context's error after 1s", err, took)
		}
		synctest.Wait()
		time.Sleep(time.Minute) // until the flight has ended
	})
}

func TestOneProof(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, err := xoauth2.New(t.Context(), newCache(t, f.issuer(), nil), &xoauth2.Options{
		ClientSecret: "marker-secret", ClientAssertion: (&told{}).assert, HTTPClient: httpClient(t),
	})
	if err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("got %v", err)
	}
	clean(t, err, "marker")
}

// TestNothingPrinted: neither the secret nor the key is in what fmt makes of a
// client, whatever the verb: those that do not fit make it follow pointers.
func TestNothingPrinted(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, hc := newCache(t, f.issuer(), nil), &http.Client{Transport: memoryTransport{f}}
	sign, err := xoauth2.SignAssertion(idp.DefaultClientID, rsaSigner(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	withSecret := newClient(t, cache, &xoauth2.Options{ClientSecret: "marker-secret", HTTPClient: hc})
	withKey := newClient(t, cache, &xoauth2.Options{ClientAssertion: sign, HTTPClient: hc})
	if err := cache.Close(t.Context()); err != nil { // what fmt reads must not change
		t.Fatal(err)
	}
	f.key = nil // the fake is in reach through the transport, and has the same one
	number := rsaSigner(t).D.String()[:20]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		for _, c := range []any{withSecret, *withSecret, withKey, *withKey} {
			if out := fmt.Sprintf(verb, c); strings.Contains(out, "marker") || strings.Contains(out, number) {
				t.Errorf("%%%s shows a secret", verb[1:])
			}
		}
	}
}
