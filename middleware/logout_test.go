package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/middleware"
)

func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	for name, tt := range map[string]struct {
		method, typ, body string
		err               error
		status            int
		called            bool
	}{
		"good":               {http.MethodPost, form + "; charset=utf-8", "logout_token=marker-token&more=1", nil, 200, true},
		"refused":            {http.MethodPost, form, "logout_token=marker-token", errors.New("marker"), 400, true},
		"GET":                {http.MethodGet, form, "logout_token=marker-token", nil, 400, false},
		"in the query":       {http.MethodPost, form, "", nil, 400, false},
		"another type":       {http.MethodPost, "application/json", `{"logout_token":"marker-token"}`, nil, 400, false},
		"no type":            {http.MethodPost, "", "logout_token=marker-token", nil, 400, false},
		"two":                {http.MethodPost, form, "logout_token=marker-token&logout_token=b", nil, 400, false},
		"empty":              {http.MethodPost, form, "logout_token=", nil, 400, false},
		"huge":               {http.MethodPost, form, "logout_token=" + strings.Repeat("a", 40<<10), nil, 400, false},
		"no form at all":     {http.MethodPost, form, "%zz", nil, 400, false},
		"a broken mediatype": {http.MethodPost, "a/b/c;", "logout_token=marker-token", nil, 400, false},
	} {
		called := false
		h := middleware.BackChannelLogout(func(_ context.Context, token string) error {
			called = token == "marker-token"
			return tt.err
		})
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "/logout?logout_token=marker-query", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", tt.typ)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || called != tt.called {
			t.Errorf("%s: got %d, called: %v", name, w.Code, called)
		}
		if w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), "marker") {
			t.Errorf("%s: the answer may be stored, or tells of the token", name)
		}
	}
}
