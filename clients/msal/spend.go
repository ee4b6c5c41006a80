package msal

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// spender is who MSAL believes to refresh for. It knows of one refresh token alone, and
// whose that is it has no need to know.
const spender = "user"

// single is the cache of an MSAL client that is made for one request: it holds the refresh
// token that is to be spent, or nothing, and keeps nothing of the answer, which the
// recorder has.
type single struct{ contents []byte }

var _ cache.ExportReplace = (*single)(nil)

// spending returns the cache for a request.
func spending(r *xoauth2.TokenRequest, authority, clientID string) *single {
	token := r.Form.Get("refresh_token")
	if token == "" {
		return &single{}
	}
	host := ""
	if u, err := url.Parse(authority); err == nil {
		host = strings.ToLower(u.Host)
	}
	// MSAL looks for a refresh token only where it finds the client's metadata.
	type item map[string]string
	b, _ := json.Marshal(map[string]map[string]item{ // cannot fail
		"RefreshToken": {"1": {
			"home_account_id": spender, "environment": host, "client_id": clientID,
			"credential_type": "RefreshToken", "secret": token,
		}},
		"AppMetadata": {"1": {"environment": host, "client_id": clientID}},
	})
	return &single{b}
}

// Replace implements cache.ExportReplace.
func (s *single) Replace(_ context.Context, u cache.Unmarshaler, hints cache.ReplaceHints) error {
	if len(s.contents) == 0 || hints.PartitionKey != spender {
		return u.Unmarshal(nil)
	}
	return u.Unmarshal(s.contents)
}

// Export implements cache.ExportReplace.
func (*single) Export(context.Context, cache.Marshaler, cache.ExportHints) error { return nil }
