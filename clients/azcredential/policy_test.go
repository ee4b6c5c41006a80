package azcredential_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/coatcheck-go/coatcheck/clients/azcredential"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ofTheCall is the credential that this package does not have: of the user of each call.
type ofTheCall struct{ client azcredential.Client }

func (c ofTheCall) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	tok, err := c.client.Acquire(ctx, tokencache.Request{Scopes: o.Scopes})
	return azcore.AccessToken{Token: string(tok.AccessToken), ExpiresOn: tok.Expires}, err
}

// Why a credential is one user's: an SDK client keeps the token of whoever came first, and
// sends it for the next. Should this fail one day, the package's comment is out of date.
func TestSharedClientIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna, ben := w.signIn(t, "anna"), w.signIn(t, "ben")
	shared := w.sdk(ofTheCall{w.client})
	for _, ctx := range []context.Context{anna, ben} {
		_, err := shared.do(t, ctx, "shared")
		must(t, err)
	}
	mine := w.token(t, anna)
	if !slices.Equal(w.service.seen("shared"), []string{mine, mine}) {
		t.Error("azcore has changed: an SDK client asks for the token of each call's user")
	}
}

// What an SDK client has, it sends until the end, whatever becomes of the tokens; one
// that is made then has the new ones.
func TestKeptToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	old := w.token(t, anna)
	credential := azcredential.New(anna, w.client)
	kept := w.sdk(credential)
	_, err := kept.do(t, anna, "kept")
	must(t, err)
	p, _ := w.cache.FromContext(anna)
	must(t, p.Expire(t.Context()))
	_, err = kept.do(t, anna, "kept")
	must(t, err)
	if !slices.Equal(w.service.seen("kept"), []string{old, old}) {
		t.Error("azcore has changed: an SDK client notices that the tokens were dropped")
	}
	_, err = w.sdk(credential).do(t, anna, "new")
	must(t, err)
	if seen := w.service.seen("new"); len(seen) != 1 || seen[0] == old {
		t.Error("a new SDK client has the old token")
	}
	must(t, w.client.SignOut(anna))
	_, err = kept.do(t, anna, "kept")
	must(t, err) // as documented
	if _, err = w.sdk(credential).do(t, anna, "gone"); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("a new SDK client after the sign-out: %v", err)
	}
}

// answering is a service without a network.
type answering struct{}

func (answering) Do(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
}

// The numbers of the package's comment.
func TestWhenItAsksAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		p := newPipeline(azcredential.New(t.Context(), fake(
			func(context.Context, tokencache.Request) (tokencache.Token, error) {
				if asked++; asked > 1 {
					return tokencache.Token{}, &tokencache.ServerError{Err: errors.New("down")}
				}
				return tokencache.Token{AccessToken: "marker-token", Expires: began.Add(time.Hour)}, nil
			})), answering{})
		for _, at := range []struct {
			after time.Duration
			asked int
		}{
			{0, 1}, {54 * time.Minute, 1}, {55*time.Minute - time.Second, 1},
			{55*time.Minute + time.Second, 2}, {55*time.Minute + 30*time.Second, 2}, {55*time.Minute + 32*time.Second, 3},
		} {
			time.Sleep(time.Until(began.Add(at.after)))
			if _, err := send(t, t.Context(), p, "https://vault.test/"); err != nil || asked != at.asked {
				t.Errorf("after %v: %v, asked %d times, want %d", at.after, err, asked, at.asked)
			}
		}
		time.Sleep(time.Until(began.Add(time.Hour + time.Second)))
		var down *tokencache.ServerError
		if _, err := send(t, t.Context(), p, "https://vault.test/"); !errors.As(err, &down) {
			t.Errorf("after its end: %v", err)
		}
	})
}

const wanted = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`

// challengeOf is what a service with continuous access evaluation answers.
func challengeOf(claims string) string {
	return `Bearer realm="", authorization_uri="https://login.test/common/oauth2/authorize", error="insufficient_claims", claims="` +
		base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
}

// A challenge brings a new token, once for all SDK clients of the user.
func TestClaimsChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	old, before := w.token(t, anna), w.asked()
	time.Sleep(1100 * time.Millisecond) // the newer of two tokens is the answer, by the second
	w.service.challenging(func(token string) string {
		if token == old {
			return challengeOf(wanted)
		}
		return ""
	})
	credential := azcredential.New(anna, w.client)
	for range 3 {
		if status, err := w.sdk(credential).do(t, anna, "anna"); err != nil || status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	}
	seen := w.service.seen("anna")
	if len(seen) != 4 || seen[0] != old || seen[1] == old || seen[2] != seen[1] || seen[3] != seen[1] {
		t.Errorf("%d requests came to the service, want the refused one and three with one new token", len(seen))
	}
	if n := w.asked() - before; n != 1 {
		t.Errorf("the authorization server was asked %d times", n)
	}
}

// What the authorization server then wants of the user reaches the application through
// the SDK's error, at once.
func TestInteraction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	must(t, w.idp.RequireInteraction("anna", wanted))
	w.service.challenging(func(string) string { return challengeOf(wanted) })
	_, err := w.sdk(azcredential.New(anna, w.client)).do(t, anna, "anna")
	var needed *tokencache.InteractionRequiredError
	if !errors.As(err, &needed) || needed.Claims != wanted || !slices.Equal(needed.Scopes, []string{vaultScope}) {
		t.Fatalf("got %v", err)
	}
	if n := len(w.service.seen("anna")); n != 1 {
		t.Errorf("%d requests came to the service", n)
	}
}

// A service that goes on refusing is asked twice, and its answer is the answer.
func TestEndlessChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anna := w.signIn(t, "anna")
	w.service.challenging(func(string) string { return challengeOf(wanted) })
	status, err := w.sdk(azcredential.New(anna, w.client)).do(t, anna, "anna")
	if n := len(w.service.seen("anna")); err != nil || status != http.StatusUnauthorized || n != 2 {
		t.Errorf("%d, %v, after %d requests", status, err, n)
	}
}

// direct is a policy of those SDK packages that have their own: it returns the
// credential's error as it is.
type direct struct{ credential azcore.TokenCredential }

func (d direct) Do(req *policy.Request) (*http.Response, error) {
	if _, err := d.credential.GetToken(req.Raw().Context(), policy.TokenRequestOptions{Scopes: []string{vaultScope}}); err != nil {
		return nil, err
	}
	return req.Next()
}

// The SDK repeats what may pass, and nothing else.
func TestRetries(t *testing.T) {
	t.Parallel()
	const once, repeated = 1, 4 // azcore's default: three retries
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"no tokens":      {tokencache.ErrNoTokens, once},
		"refused":        {tokencache.ErrInvalidGrant, once},
		"interaction":    {&tokencache.InteractionRequiredError{Code: "login_required"}, once},
		"protocol":       {&xoauth2.ProtocolError{Code: "invalid_client"}, once},
		"unsupported":    {errors.ErrUnsupported, once},
		"both":           {errors.Join(tokencache.ErrNoTokens, tokencache.ErrUnavailable), once},
		"server down":    {&tokencache.ServerError{Err: errors.New("down")}, repeated},
		"store down":     {tokencache.ErrUnavailable, repeated},
		"busy":           {tokencache.ErrBusy, repeated},
		"somebody's end": {context.DeadlineExceeded, repeated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			client := fake(func(context.Context, tokencache.Request) (tokencache.Token, error) {
				asked++
				return tokencache.Token{}, test.err
			})
			p := pipelineOf(direct{azcredential.New(t.Context(), client)}, answering{})
			_, err := send(t, t.Context(), p, "https://registry.test/")
			if !errors.Is(err, test.err) || err.Error() != test.err.Error() || asked != test.want {
				t.Errorf("asked %d times, want %d: %v", asked, test.want, err)
			}
		})
	}
}
