package tokencache

import (
	"strings"
	"testing"
)

func TestCanonicalKey(t *testing.T) {
	t.Parallel()
	base := []string{"home_account_id", "Uid.Utid", "environment", "Login.Example", "client_id", "Client", "realm", "Realm"}
	with := func(more ...string) string { return fields(append(append([]string(nil), base...), more...)...) }
	const ext = `"ext":{"k2":"v2","k1":"v1"},`
	// base64url(SHA-256("k1v1k2v2"))
	const extKey = "nzc7ry-kmo271dacndil-rksnyjpfkaomvwx1fpry-8"
	for _, tt := range []struct {
		name string
		s    section
		item string
		want string
	}{
		{"access", accessTokens, with("target", "B A"), "uid.utid-login.example-accesstoken-client-realm-a b"},
		{"access, bearer", accessTokens, with("target", "a", "token_type", "Bearer"), "uid.utid-login.example-accesstoken-client-realm-a"},
		{"access, pop", accessTokens, with("target", "a", "token_type", "PoP"), "uid.utid-login.example-accesstoken_with_authscheme-client-realm-a-pop"},
		{"access, ext", accessTokens, strings.Replace(with("target", "a"), "{", "{"+ext, 1), "uid.utid-login.example-atext-client-realm-a-" + extKey},
		{"access, pop and ext", accessTokens, strings.Replace(with("target", "a", "token_type", "pop"), "{", "{"+ext, 1),
			"uid.utid-login.example-atext-client-realm-a-pop-" + extKey},
		{"application", accessTokens, fields("environment", "e", "client_id", "c", "target", "a"), "-e-accesstoken-c--a"},
		{"refresh", refreshTokens, with(), "uid.utid-login.example-refreshtoken-client--"},
		{"refresh, family", refreshTokens, with("family_id", "1"), "uid.utid-login.example-refreshtoken-1--"},
		{"refresh, ext", refreshTokens, strings.Replace(with(), "{", "{"+ext, 1), "uid.utid-login.example-refreshtoken-client---" + extKey},
		{"id", idTokens, with(), "uid.utid-login.example-idtoken-client-realm-"},
		{"account", accounts, with(), "Uid.Utid-Login.Example-Realm"},
		{"app metadata", appMetadata, with(), "appmetadata-login.example-client"},
	} {
		it, err := parseItem("", []byte(tt.item))
		if err != nil {
			t.Fatal(err)
		}
		if got := canonicalKey(tt.s, it); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestJoinDuplicates(t *testing.T) {
	t.Parallel()
	const canonical = "uid.utid-login.example-refreshtoken-client--"
	refresh := func(key, secret string, more ...string) string {
		return string(appendQuoted(nil, key)) + ":" + refreshItem(secret, testClient, testAccount, more...)
	}
	access := func(key, secret string, more ...string) string {
		pairs := []string{"home_account_id", testAccount, "environment", testEnv, "client_id", testClient, "realm", "utid", "secret", secret}
		return string(appendQuoted(nil, key)) + ":" + fields(append(pairs, more...)...)
	}
	for _, tt := range []struct {
		name, section string
		items         []string
		want          string // secrets that are left, sorted by key
	}{
		{"the dated one", "RefreshToken", []string{refresh("k", "A", "last_modification_time", "1"), refresh(canonical, "B")}, "A"},
		{"the newer one", "RefreshToken", []string{refresh("k", "A", "last_modification_time", "3"), refresh(canonical, "B", "last_modification_time", "2")}, "A"},
		{"the canonical one", "RefreshToken", []string{refresh(canonical, "A"), refresh(canonical+"-", "B")}, "A"},
		{"the canonical one, last", "RefreshToken", []string{refresh(canonical+"-", "B"), refresh(canonical, "A")}, "A"},
		{"MSAL Go and MSAL Node: the last", "RefreshToken", []string{refresh(strings.TrimRight(canonical, "-"), "A"), refresh(canonical+"-", "B")}, "B"},
		{"another case", "RefreshToken", []string{refresh("k", "A"), strings.ToUpper(refresh("l", "B"))}, "A B"},
		{"account in another case", "RefreshToken", []string{refresh("k", "A"), strings.Replace(refresh("l", "B"), "uid.utid", "UID.utid", 1)}, "B"},
		{"another client", "RefreshToken", []string{refresh("k", "A"), strings.Replace(refresh("l", "B"), `"client"`, `"client2"`, 1)}, "A B"},
		{"a family", "RefreshToken", []string{refresh("k", "A", "family_id", "1"), strings.Replace(refresh("l", "B", "family_id", "1"), `"client"`, `"client2"`, 1)}, "B"},
		{"an assertion's", "RefreshToken", []string{refresh("k", "A"), refresh("l", "B", "user_assertion_hash", "h")}, "A B"},
		{"the newest by cached_at", "AccessToken", []string{access("k", "A", "cached_at", "2"), access("l", "B", "cached_at", "1")}, "A"},
		{"modified before cached", "AccessToken", []string{access("k", "A", "cached_at", "2"), access("l", "B", "cached_at", "1", "last_modification_time", "3")}, "B"},
		{"scopes in another order and case", "AccessToken", []string{access("k", "A", "target", "a B"), access("l", "B", "target", "b  A a")}, "B"},
		{"other scopes", "AccessToken", []string{access("k", "A", "target", "a"), access("l", "B", "target", "b")}, "A B"},
		{"bearer by name", "AccessToken", []string{access("k", "A", "token_type", "Bearer"), access("l", "B")}, "B"},
		{"pop", "AccessToken", []string{access("k", "A"), access("l", "B", "token_type", "pop")}, "A B"},
		{"padded assertion hash", "AccessToken", []string{access("k", "A", "user_assertion_hash", "h="), access("l", "B", "userAssertionHash", "h")}, "B"},
		{"claims", "AccessToken", []string{access("k", "A"), access("l", "B", "requestedClaimsHash", "h")}, "A B"},
		{"claims of both kinds", "AccessToken", []string{access("k", "A", "requestedClaims", "{}"), access("l", "B", "requestedClaimsHash", claimsHash("{}"))}, "B"},
		{"continuous access evaluation", "AccessToken", []string{access("k", "A"), withCAE(access("l", "B"))}, "A B"},
		{"both of that kind", "AccessToken", []string{withCAE(access("k", "A")), withCAE(access("l", "B"))}, "B"},
		{"that kind, and the claims of its name", "AccessToken", []string{access("k", "A", "requestedClaimsHash", "cae"), withCAE(access("l", "B"))}, "A B"},
		{"key of MSAL Go", "AccessToken", []string{access("k", "A"), access("l", "B", "ext_cache_key", "h")}, "A B"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := mustParse(t, `{"`+tt.section+`":{`+strings.Join(tt.items, ",")+`}}`)
			s, _ := sectionNamed(tt.section)
			var left []string
			for _, it := range d.sections[s] {
				left = append(left, it.text(fieldSecret)+it.text("SECRET"))
			}
			if got := strings.Join(left, " "); got != tt.want {
				t.Errorf("left %q, want %q", got, tt.want)
			}
		})
	}
}

// The unknown fields of an item that loses are not mixed into the winner.
func TestJoinDoesNotMerge(t *testing.T) {
	t.Parallel()
	d := mustParse(t, sectionOf("RefreshToken",
		refreshItem("A", testClient, testAccount, "last_modification_time", "1", "old", "x"),
		refreshItem("B", testClient, testAccount, "last_modification_time", "2", "new", "y")))
	it := d.sections[refreshTokens][0]
	if len(d.sections[refreshTokens]) != 1 || it.text("new") != "y" || it.raw("old") != nil {
		t.Errorf("got %s", encoded(d))
	}
}
