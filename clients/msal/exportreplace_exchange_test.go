package msal_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

var errTest = errors.New("test")

func TestExchange(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	grant, err := msal.Exchange(w.byCode("anna"), w.verifier("nonce"))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := grant.Account
	if a.ID == "" || a.LocalID == "" || a.Tenant == "" || a.Username != "anna@contoso.test" || a.Name != "anna" || grant.SID == "" {
		t.Errorf("the grant is incomplete: account %t, local %t, tenant %t, %q, %q, session %t",
			a.ID != "", a.LocalID != "", a.Tenant != "", a.Username, a.Name, grant.SID != "")
	}
	first := c.Partition(w.enter(c, "anna").Key())
	if err := first.SignOut(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	second := w.enter(c, "anna") // which may follow a sign-out
	w.alive(c.Partition(second.Key()))
	session, err := c.SignInSession(t.Context(), "session", msal.Exchange(w.byCode("anna"), w.verifier("nonce")))
	if err != nil {
		t.Fatal(err)
	}
	w.alive(c.Partition(session.Key()))
	// The server has ended the session: what is signed in from it ends.
	if known, err := c.SignOutSID(t.Context(), grant.SID, nil); err != nil || known {
		t.Errorf("a grant that nobody has stored is known: %v, %v", known, err)
	}
}

// What verify refuses is not stored, and neither is what go-oidc would refuse.
func TestExchangeVerifies(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*stage) func(string) string{
		"signature": func(w *stage) func(string) string { return w.replaced("anna@contoso.test", "root@contoso.test") },
		"nonce":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStage(t)
			c, nonce := w.cache(w.provider()), "nonce"
			if edit != nil {
				w.edited(edit(w))
			} else {
				nonce = "another"
			}
			var account string
			acquire := func(ctx context.Context, x msalcache.ExportReplace) (confidential.AuthResult, error) {
				ar, err := w.byCode("anna")(ctx, x)
				account = ar.Account.HomeAccountID
				return ar, err
			}
			if _, err := c.SignIn(t.Context(), msal.Exchange(acquire, w.verifier(nonce))); err == nil {
				t.Error("signed in")
			}
			if err := c.Partition(tokencache.AccountKey(account)).Check(t.Context()); account == "" || !errors.Is(err, tokencache.ErrNoTokens) {
				t.Errorf("got %v, want ErrNoTokens", err)
			}
		})
	}
}

func TestExchangeErrors(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	accept := func(context.Context, string) error { return nil }
	type accessor = msalcache.ExportReplace
	for name, acquire := range map[string]func(context.Context, accessor) (confidential.AuthResult, error){
		"of acquire": func(context.Context, accessor) (confidential.AuthResult, error) {
			return confidential.AuthResult{}, errTest
		},
		"an accessor that is not used": func(ctx context.Context, _ accessor) (confidential.AuthResult, error) {
			return w.byCode("anna")(ctx, newSamples())
		},
		"the tokens of another account": func(ctx context.Context, x accessor) (confidential.AuthResult, error) {
			if _, err := w.byCode("anna")(ctx, x); err != nil {
				return confidential.AuthResult{}, err
			}
			return w.byCode("berta")(ctx, newSamples())
		},
		"two accounts": func(ctx context.Context, x accessor) (confidential.AuthResult, error) {
			if _, err := w.byCode("anna")(ctx, x); err != nil {
				t.Error(err)
			}
			return w.byCode("berta")(ctx, x)
		},
		"the application's tokens": func(ctx context.Context, x accessor) (confidential.AuthResult, error) {
			return w.client(x).AcquireTokenByCredential(ctx, []string{"api://mail/.default"})
		},
		"no ID token": func(ctx context.Context, x accessor) (confidential.AuthResult, error) {
			ar, err := w.byCode("anna")(ctx, x)
			ar.IDToken.RawToken = ""
			return ar, err
		},
		"no key": func(ctx context.Context, x accessor) (confidential.AuthResult, error) {
			return confidential.AuthResult{}, w.client(x).RemoveAccount(ctx, confidential.Account{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := msal.Exchange(acquire, accept)(t.Context())
			if err == nil || grant.Tokens != nil {
				t.Error("no error")
			}
			if err != nil && strings.Contains(err.Error(), "anna") {
				t.Error("the error shows whom it is about")
			}
		})
	}
}

// The accessor is the sign-in's: within it what was acquired is found, and after it
// nothing is.
func TestExchangeAccessor(t *testing.T) {
	t.Parallel()
	w := newStage(t)
	c := w.cache(w.provider())
	var kept confidential.Client
	ticket, err := c.SignIn(t.Context(), msal.Exchange(func(ctx context.Context, x msalcache.ExportReplace) (confidential.AuthResult, error) {
		kept = w.client(x)
		ar := w.signIn(kept, "anna")
		_, err := w.silent(ctx, kept, ar.Account.HomeAccountID, stageMail)
		return ar, err
	}, w.verifier("nonce")))
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{stageAPI, stageMail} {
		if _, cached := w.mustAsk(c.Partition(ticket.Key()), scope); !cached {
			t.Errorf("the token for %s is not stored", scope)
		}
	}
	if _, err := w.silent(t.Context(), kept, ticket.Account(), stageAPI); err == nil {
		t.Error("the client of a sign-in works after it")
	}
	w.alive(c.Partition(ticket.Key()))
}
