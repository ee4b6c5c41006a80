package msal

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// silent never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A platform that does not answer takes no longer than it may, and the end of the caller
// is told from that.
func TestIdentityTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		timeout, caller, want time.Duration
	}{
		"three attempts":   {2 * time.Second, time.Hour, 8 * time.Second},
		"ten seconds":      {time.Minute, time.Hour, identityTimeout},
		"the caller's end": {time.Minute, 3 * time.Second, 3 * time.Second},
		"between attempts": {2 * time.Second, 2500 * time.Millisecond, 2500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, err := managedidentity.New(managedidentity.SystemAssigned(), managedidentity.WithHTTPClient(
					newPlatform(&http.Client{Transport: silent{}, Timeout: test.timeout})))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.caller)
				defer cancel()
				began := time.Now()
				_, err = (&identityServer{client: client, resource: "https://vault.test"}).Refresh(ctx, "", tokencache.Request{})
				if took := time.Since(began); took != test.want {
					t.Errorf("it took %v, want %v", took, test.want)
				}
				var down *tokencache.ServerError
				if own := test.caller < time.Hour; errors.As(err, &down) == own || errors.Is(err, context.DeadlineExceeded) != own {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
