package xoauth2_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestResponseMembers(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	ctx := f.mustSignIn(t, cache, c, nil, nil)
	for name, tt := range map[string]struct {
		members map[string]any
		life    time.Duration
		scopes  []string
	}{
		"number":      {map[string]any{"expires_in": 3600}, time.Hour, nil},
		"string":      {map[string]any{"expires_in": "3600"}, time.Hour, nil},
		"fraction":    {map[string]any{"expires_in": 3600.5}, time.Hour, nil},
		"absent":      {map[string]any{"expires_in": nil}, 5 * time.Minute, nil},
		"nonsense":    {map[string]any{"expires_in": "soon"}, 5 * time.Minute, nil},
		"zero":        {map[string]any{"expires_in": 0}, 5 * time.Minute, nil},
		"enormous":    {map[string]any{"expires_in": 1e300}, 3650 * 24 * time.Hour, nil},
		"more scopes": {map[string]any{"scope": "extra  asked"}, time.Hour, []string{"extra", "asked"}},
	} {
		t.Run(name, func(t *testing.T) {
			scope := "asked"
			body := tokens(tt.members)
			body["access_token"] = name
			f.answer(reply{body: body})
			p, _ := cache.FromContext(ctx)
			if err := p.Expire(ctx); err != nil {
				t.Fatal(err)
			}
			tok, err := c.Token(ctx, scope)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(tok.Expires); left > tt.life+time.Second || left < tt.life-10*time.Second {
				t.Errorf("it lives for %v, want %v", left, tt.life)
			}
			if tt.scopes != nil && !slices.Equal(tok.Scopes, tt.scopes) {
				t.Errorf("scopes %q, want %q", tok.Scopes, tt.scopes)
			}
			if tok.Type != "Bearer" || string(tok.AccessToken) != name {
				t.Errorf("type %q, or another token", tok.Type)
			}
		})
	}
	form := f.last(t).PostForm
	if form.Get("scope") != "asked openid offline_access" || form.Has("client_info") || form.Has("resource") {
		t.Errorf("sent scope %q, client_info %v, resource %v", form.Get("scope"), form.Has("client_info"), form.Has("resource"))
	}
}

// TestDefaultScope: Entra ID answers .default with what it stands for.
func TestDefaultScope(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	ctx := f.mustSignIn(t, cache, c, nil, nil)
	f.answer(reply{body: tokens(map[string]any{"scope": "api://x/Read api://x/Write"})}, reply{status: 500})
	for range 2 {
		if _, err := c.Token(ctx, "api://x/.default"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRotatedTokenIsKept: the new refresh token is used next, however bad the
// rest of the answer that brought it.
func TestRotatedTokenIsKept(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	for name, body := range map[string]any{
		"no access token":       map[string]any{"refresh_token": "marker-refresh-2"},
		"another type":          map[string]any{"access_token": 5, "refresh_token": "marker-refresh-2"},
		"ID token not a JWT":    tokens(map[string]any{"refresh_token": "marker-refresh-2", "id_token": "marker"}),
		"ID token of a forger":  tokens(map[string]any{"refresh_token": "marker-refresh-2", "id_token": f.idToken(t, map[string]any{"iss": "https://evil.example"})}),
		"no access token, kept": `{"refresh_token":"marker-refresh-2","scope":["a"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			cache, c := f.client(t, nil)
			ctx := f.mustSignIn(t, cache, c, nil, nil)
			f.answer(reply{body: body}, reply{body: tokens(nil)})
			_, err := c.Token(ctx, "other")
			var down *tokencache.ServerError
			if !errors.As(err, &down) {
				t.Errorf("got %v, want a ServerError", err)
			}
			clean(t, err, "marker")
			if _, err := c.Token(ctx, "other"); err != nil {
				t.Error(err)
			}
			if got := f.last(t).PostForm.Get("refresh_token"); got != "marker-refresh-2" {
				t.Errorf("sent %s, want the new refresh token", got)
			}
		})
	}
}

// TestForeignAnswer: nothing of another user's tokens is kept.
func TestForeignAnswer(t *testing.T) {
	t.Parallel()
	const home = "11111111-2222-3333-4444-555555555555"
	f := newFake(t, home)
	own := map[string]any{"oid": "o-1", "tid": home}
	for name, members := range map[string]map[string]any{
		"client_info alone":     {"client_info": clientInfo("o-2", home)},
		"ID token alone":        {"id_token": f.idToken(t, map[string]any{"sub": "s2", "oid": "o-2", "tid": home})},
		"both":                  {"client_info": clientInfo("o-2", home), "id_token": f.idToken(t, map[string]any{"sub": "s2", "oid": "o-2", "tid": home})},
		"one against the other": {"client_info": clientInfo("o-1", home), "id_token": f.idToken(t, map[string]any{"sub": "s2", "oid": "o-2", "tid": home})},
	} {
		t.Run(name, func(t *testing.T) {
			cache, c := f.client(t, nil)
			ctx := f.mustSignIn(t, cache, c, own, map[string]any{"client_info": clientInfo("o-1", home)})
			foreign := tokens(members)
			foreign["refresh_token"], foreign["access_token"] = "marker-foreign", "marker-foreign"
			f.answer(reply{body: foreign}, reply{body: tokens(nil)})
			_, err := c.Token(ctx, "other")
			if !errors.Is(err, xoauth2.ErrIDToken) {
				t.Errorf("got %v, want ErrIDToken", err)
			}
			clean(t, err, "marker", "o-1", "o-2")
			if _, err := c.Token(ctx, "other"); err != nil {
				t.Error(err)
			}
			if got := f.last(t).PostForm.Get("refresh_token"); got != "marker-refresh-1" {
				t.Errorf("sent %s, want the user's own refresh token", got)
			}
		})
	}
}

func TestErrorAnswers(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	soon := http.Header{"Retry-After": {time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat)}}
	oauth := func(members ...string) map[string]any {
		m := map[string]any{"error_description": "marker description"}
		for i := 0; i < len(members); i += 2 {
			m[members[i]] = members[i+1]
		}
		return m
	}
	tests := map[string]struct {
		reply       reply
		interaction string
		protocol    string
		grant, down bool
		retry       time.Duration
	}{
		"invalid_grant":      {reply: reply{400, nil, oauth("error", "invalid_grant")}, grant: true},
		"bad_token":          {reply: reply{400, nil, oauth("error", "invalid_grant", "suberror", "bad_token")}, grant: true},
		"status 200":         {reply: reply{200, nil, oauth("error", "invalid_grant")}, grant: true},
		"consent":            {reply: reply{400, nil, oauth("error", "invalid_grant", "suberror", "consent_required")}, interaction: "consent_required"},
		"basic_action":       {reply: reply{400, nil, oauth("error", "invalid_grant", "suberror", "basic_action")}, interaction: "interaction_required"},
		"claims":             {reply: reply{400, nil, oauth("error", "invalid_grant", "claims", `{"a":1}`)}, interaction: "interaction_required"},
		"login_required":     {reply: reply{400, nil, oauth("error", "login_required")}, interaction: "login_required"},
		"invalid_client":     {reply: reply{401, nil, oauth("error", "invalid_client")}, protocol: "invalid_client"},
		"invalid_scope":      {reply: reply{400, nil, oauth("error", "invalid_scope")}, interaction: "invalid_scope"},
		"invalid_target":     {reply: reply{400, nil, oauth("error", "invalid_target")}, protocol: "invalid_target"},
		"a forged code":      {reply: reply{400, nil, oauth("error", "marker\nline")}, protocol: "unreadable"},
		"unavailable":        {reply: reply{400, nil, oauth("error", "temporarily_unavailable")}, down: true},
		"no code":            {reply: reply{400, nil, oauth()}, down: true},
		"no JSON":            {reply: reply{404, nil, "marker <html>"}, down: true},
		"500, invalid_grant": {reply: reply{500, nil, oauth("error", "invalid_grant")}, down: true},
		"mac token":          {reply: reply{body: tokens(map[string]any{"token_type": "mac"})}, down: true},
		"redirect":           {reply: reply{307, http.Header{"Location": {f.URL + "/stolen"}}, ""}, down: true},
		"date":               {reply: reply{503, soon, ""}, down: true, retry: 10 * time.Minute},
		"far":                {reply: reply{503, http.Header{"Retry-After": {"999999999"}}, ""}, down: true, retry: time.Hour},
		"past":               {reply: reply{503, http.Header{"Retry-After": {"Mon, 02 Jan 2006 15:04:05 GMT"}}, ""}, down: true},
		"strange":            {reply: reply{503, http.Header{"Retry-After": {"-5"}}, ""}, down: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := f.mustSignIn(t, cache, c, map[string]any{"sub": name}, map[string]any{"refresh_token": "marker-" + name})
			f.answer(tt.reply)
			_, err := c.Token(ctx, "other")
			var down *tokencache.ServerError
			var interaction *tokencache.InteractionRequiredError
			var protocol *xoauth2.ProtocolError
			if errors.As(err, &down) != tt.down || tt.down && (down.RetryAfter-tt.retry).Abs() > 3*time.Second {
				t.Errorf("got %v, down %+v", err, down)
			}
			if errors.Is(err, tokencache.ErrInvalidGrant) != tt.grant {
				t.Errorf("got %v, want ErrInvalidGrant: %v", err, tt.grant)
			}
			if errors.As(err, &interaction) != (tt.interaction != "") || interaction != nil && interaction.Code != tt.interaction {
				t.Errorf("got %v, want interaction %q", err, tt.interaction)
			}
			if errors.As(err, &protocol) != (tt.protocol != "") || protocol != nil && protocol.Code != tt.protocol {
				t.Errorf("got %v, want protocol error %q", err, tt.protocol)
			}
			clean(t, err, "marker")
		})
	}
}

func TestRevocationAnswers(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	f.metadata["revocation_endpoint"] = f.URL + "/revoke"
	f.metadata["revocation_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	cache, c := f.client(t, nil)
	for name, tt := range map[string]struct {
		reply reply
		code  string
		down  bool
	}{
		"done":        {reply: reply{}},
		"unsupported": {reply: reply{status: 400, body: map[string]any{"error": "unsupported_token_type"}}},
		"refused":     {reply: reply{status: 401, body: map[string]any{"error": "invalid_client"}}, code: "invalid_client"},
		"down":        {reply: reply{status: 503}, down: true},
		"lost":        {reply: reply{status: 404, body: "marker"}, down: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := f.mustSignIn(t, cache, c, nil, nil)
			f.answer(tt.reply)
			err := c.SignOut(ctx)
			var down *tokencache.ServerError
			var refused *xoauth2.ProtocolError
			if errors.As(err, &down) != tt.down || errors.As(err, &refused) != (tt.code != "") {
				t.Errorf("got %v", err)
			}
			clean(t, err, "marker")
			form := f.last(t).PostForm
			if form.Get("token") != "marker-refresh-1" || form.Get("token_type_hint") != "refresh_token" || form.Get("client_secret") == "" {
				t.Errorf("sent %d parameters that do not fit", len(form))
			}
		})
	}
	none := newFake(t, "")
	cache, c = none.client(t, nil)
	if err := c.SignOut(none.mustSignIn(t, cache, c, nil, nil)); err != nil || c.EndSessionURL("") != "" {
		t.Errorf("a server without revocation: %v", err)
	}
}

// TestRefreshOn: from then on a new token is fetched, though the old one would do
// if the server were down.
func TestRefreshOn(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	ctx := f.mustSignIn(t, cache, c, nil, map[string]any{"refresh_in": "1"})
	f.answer(reply{status: 503}, reply{body: tokens(map[string]any{"access_token": "marker-second"})})
	for _, want := range []tokencache.Secret{"marker-access-token", "marker-second"} {
		time.Sleep(1100 * time.Millisecond) // until it is due, and until the server is asked again
		tok, err := c.Token(ctx)
		if err != nil || tok.AccessToken != want {
			t.Errorf("got %v, or another token than %s", err, string(want))
		}
	}
}

// TestNoRedirects: secrets go to the endpoints that discovery named, and nowhere
// else.
func TestNoRedirects(t *testing.T) {
	t.Parallel()
	thief := newRecorder(t, nil)
	f := newFake(t, "")
	cache, c := f.client(t, nil)
	ctx := f.mustSignIn(t, cache, c, nil, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f.answer(reply{status: status, header: http.Header{"Location": {thief.URL}}})
		var down *tokencache.ServerError
		if _, err := c.Token(ctx, "other"); !errors.As(err, &down) {
			t.Errorf("%d: got %v, want a ServerError", status, err)
		}
	}
	if n := len(thief.headers()); n != 0 {
		t.Errorf("%d requests were redirected", n)
	}
}
