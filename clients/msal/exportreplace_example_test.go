package msal_test

import (
	"context"
	"errors"
	"net/http"
	"time"

	msalcache "github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// application is what yours has anyway.
type application struct {
	authority, clientID, redirectURL string
	credential                       confidential.Credential
	cache                            *tokencache.Cache
	idTokens                         *oidc.IDTokenVerifier
}

var bounded = &http.Client{Timeout: 20 * time.Second}

// An MSAL client for each call, with the partition that the middleware has found.
func ExampleNewExportReplace() {
	var app application
	_ = func(w http.ResponseWriter, r *http.Request) {
		partition, ok := app.cache.FromContext(r.Context())
		if !ok {
			http.Error(w, "not signed in", http.StatusUnauthorized)
			return
		}
		client, err := confidential.New(app.authority, app.clientID, app.credential,
			confidential.WithCache(msal.NewExportReplace(partition)), confidential.WithHTTPClient(bounded))
		if err != nil {
			http.Error(w, "misconfigured", http.StatusInternalServerError)
			return
		}
		account := confidential.Account{HomeAccountID: partition.Key().Account()}
		// What MSAL has begun it has to finish, or a refresh token may be lost.
		result, err := client.AcquireTokenSilent(context.WithoutCancel(r.Context()), []string{"User.Read"},
			confidential.WithSilentAccount(account))
		switch {
		case errors.Is(err, tokencache.ErrUnavailable): // the user is still signed in
			http.Error(w, "try again", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, "sign in again", http.StatusUnauthorized)
		default:
			_ = result.AccessToken // for the API
		}
	}
}

// The callback of a sign-in, once its state has proved to be the session's. The nonce and
// the PKCE verifier were made when it began: AuthCodeURL makes none.
func ExampleExchange() {
	var app application
	_ = func(ctx context.Context, code, verifier, nonce string) (tokencache.Ticket, error) {
		return app.cache.SignIn(ctx, msal.Exchange(
			func(ctx context.Context, accessor msalcache.ExportReplace) (confidential.AuthResult, error) {
				client, err := confidential.New(app.authority, app.clientID, app.credential,
					confidential.WithCache(accessor), confidential.WithHTTPClient(bounded))
				if err != nil {
					return confidential.AuthResult{}, err
				}
				return client.AcquireTokenByAuthCode(ctx, code, app.redirectURL, []string{"User.Read"},
					confidential.WithChallenge(verifier)) // whatever the option is called
			},
			func(ctx context.Context, idToken string) error {
				token, err := app.idTokens.Verify(ctx, idToken)
				if err == nil && token.Nonce != nonce {
					err = errors.New("the ID token has another nonce")
				}
				return err
			},
		))
	}
}
