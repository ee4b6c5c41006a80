package msal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The refresh token that another client of the family has left is spent by this one, if it
// is known to be in the family, and what comes in its place is the family's too.
func TestFamily(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	m := w.app(t)
	const home = "00000000-0000-0000-0000-000000000001.11111111-2222-3333-4444-555555555555"
	host := hostOf(t, w.idp.URL())
	var tokens tokencache.Tokens
	must(t, tokens.UnmarshalJSON(fmt.Appendf(nil, `{
		"RefreshToken": {"1": {"home_account_id": %[1]q, "environment": %[2]q, "client_id": "cousin", "family_id": "1",
			"credential_type": "RefreshToken", "secret": "marker-family"}},
		"AppMetadata": {"1": {"client_id": "app", "environment": %[2]q, "family_id": "1"}}}`, home, host)))
	ticket, err := m.cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{Account: tokencache.Account{ID: home}, Tokens: &tokens}, nil
	})
	must(t, err)
	var spent []string
	w.metadata.answer(func(req *http.Request) *http.Response {
		if req.Method != http.MethodPost {
			return nil
		}
		must(t, req.ParseForm())
		spent = append(spent, req.PostForm.Get("refresh_token"))
		body, err := json.Marshal(map[string]any{
			"access_token": fmt.Sprint("marker-access-", len(spent)), "token_type": "Bearer", "expires_in": 3600,
			"refresh_token": fmt.Sprint("marker-family-", len(spent)), "foci": "1", "scope": mineScope,
		})
		must(t, err)
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: req}
	})
	for range 3 {
		tok := m.token(t, m.of(t, ticket.Key()), mineScope)
		if time.Until(tok.Expires) < 50*time.Minute {
			t.Error("the token has another lifetime")
		}
		m.expire(t, ticket.Key())
	}
	if got := strings.Join(spent, " "); got != "marker-family marker-family-1 marker-family-2" {
		t.Error("other refresh tokens were spent than the family's, one after the other")
	}
	left, err := m.cache.Partition(ticket.Key()).Tokens(t.Context())
	must(t, err)
	b, err := left.MarshalJSON()
	must(t, err)
	if n := strings.Count(string(b), `"family_id":"1"`); n != 2 {
		t.Errorf("%d items are of the family, want the refresh token and the client", n)
	}
}
