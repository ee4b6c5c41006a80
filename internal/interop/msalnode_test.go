package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// MSAL Node itself, and an authorization server where a refresh token that comes twice
// ends the sign-in.
func TestMSALNode(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, test := range map[string]func(*testing.T, *world){
		"from":     fromNode,
		"to":       toNode,
		"in turns": inTurns,
		"old keys": oldKeys,
		"no adopt": notAdopted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, n))
		})
	}
}

// takeOver signs in whoever is in another library's cache.
func takeOver(t *testing.T, cache *tokencache.Cache, all *tokencache.Tokens) tokencache.Ticket {
	t.Helper()
	accounts := all.Accounts()
	if len(accounts) == 0 {
		t.Fatal("there is no account")
	}
	ticket, err := cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{Account: accounts[0], Tokens: all}, nil
	})
	check(t, err)
	return ticket
}

// fromNode moves a user, who notices nothing.
func fromNode(t *testing.T, w *world) {
	first := w.signInToNode(t, "anna", readScope)
	second := w.silent(t, first.Cache, false, mailScope)
	a := w.app(t)
	var ticket tokencache.Ticket
	w.refreshes(t, 0, func() {
		ticket = takeOver(t, a.cache, tokens(t, second.Cache))
		for scope, want := range map[string]string{readScope: first.Token, mailScope: second.Token} {
			if tok := a.token(t, ticket, scope); digest(tok.AccessToken) != want || tok.Source == tokencache.SourceServer {
				t.Errorf("%s: another token, or from the %s", scope, tok.Source)
			}
		}
	})
	all, _ := a.export(t, ticket)
	if list := all.Accounts(); ticket.Account() != first.Account || len(list) != 1 || list[0].Username != "anna@contoso.test" {
		t.Errorf("another account was signed in, or one of %d", len(list))
	}
	for range 2 {
		check(t, a.cache.Partition(ticket.Key()).Expire(t.Context()))
		w.refreshes(t, 1, func() {
			if tok := a.token(t, ticket, mailScope); digest(tok.AccessToken) == second.Token {
				t.Error("the token was not refreshed")
			}
		})
	}
}

// toNode moves a user back.
func toNode(t *testing.T, w *world) {
	a := w.app(t)
	ticket := w.signIn(t, a, "anna")
	tok := a.token(t, ticket, readScope)
	_, blob := a.export(t, ticket)
	var got *outcome
	w.refreshes(t, 0, func() {
		got = w.adopted(t, blob, false, readScope)
		if !got.FromCache || got.Token != digest(tok.AccessToken) {
			t.Errorf("another token, or not from the cache: %v", got.FromCache)
		}
	})
	for range 3 { // each with the refresh token of the one before
		old := got
		w.refreshes(t, 1, func() { got = w.silent(t, got.Cache, true, readScope) })
		if got.FromCache || got.Token == old.Token || got.Account != ticket.Account() || got.Username != "anna@contoso.test" {
			t.Errorf("the old token, or another user; from the cache: %v", got.FromCache)
		}
	}
}

// notAdopted is what adopt is for: should MSAL Node not need it any more, this test fails.
func notAdopted(t *testing.T, w *world) {
	a := w.app(t)
	_, blob := a.export(t, w.signIn(t, a, "anna"))
	first := w.silent(t, blob, true, readScope)
	again := w.try(t, &step{Name: "silent", Scopes: []string{readScope}, Force: true, Cache: first.Cache})
	if again.Error != "invalid_grant" || w.idp.Stats().RefreshReused != 1 {
		t.Errorf("MSAL Node has not used a refresh token twice: error %q", again.Error)
	}
}

// inTurns has both work with a user's tokens, one after the other. MSAL Node leaves the
// refresh token that it was given under another key beside its own.
func inTurns(t *testing.T, w *world) {
	a := w.app(t)
	ticket := w.signIn(t, a, "anna")
	p := a.cache.Partition(ticket.Key())
	for _, adopt := range []bool{true, false, false, true} {
		before, blob := a.export(t, ticket)
		var got *outcome
		w.refreshes(t, 1, func() {
			got = w.step(t, &step{Name: "silent", Scopes: []string{mailScope}, Force: true, Cache: blob, Adopt: adopt})
		})
		if n := len(names(t, got.Cache)); n == 1 != adopt {
			t.Errorf("adopted: %v, and MSAL Node has %d refresh tokens", adopt, n)
		}
		check(t, p.Merge(t.Context(), before, tokens(t, got.Cache)))
		w.refreshes(t, 0, func() {
			if tok := a.token(t, ticket, mailScope); digest(tok.AccessToken) != got.Token {
				t.Error("it is not the token that MSAL Node has obtained")
			}
		})
		after, _ := a.export(t, ticket)
		if n := count(after, "refresh"); n != 1 {
			t.Errorf("there are %d refresh tokens", n)
		}
		check(t, p.Expire(t.Context()))
		w.refreshes(t, 1, func() { a.token(t, ticket, readScope) })
	}
}

// oldKeys moves a user whom an earlier version of MSAL Node had signed in, which wrote
// more dashes: the later one has left its entry as it was, and added its own.
func oldKeys(t *testing.T, w *world) {
	first := w.signInToNode(t, "anna", readScope)
	aged := rename(t, first.Cache, func(key string) string { return key + "-" })
	second := w.silent(t, aged, true, readScope)
	if got := names(t, second.Cache); len(got) != 2 || strings.TrimRight(got[0], "-") != strings.TrimRight(got[1], "-") {
		t.Fatalf("MSAL Node has not left two refresh tokens that differ in dashes, but %d", len(got))
	}
	a := w.app(t)
	ticket := takeOver(t, a.cache, tokens(t, second.Cache))
	all, _ := a.export(t, ticket)
	if n := count(all, "refresh"); n != 1 {
		t.Errorf("there are %d refresh tokens", n)
	}
	for range 2 {
		check(t, a.cache.Partition(ticket.Key()).Expire(t.Context()))
		w.refreshes(t, 1, func() { a.token(t, ticket, readScope) })
	}
}

// count tells how many tokens of a kind there are.
func count(all *tokencache.Tokens, kind string) int {
	n := 0
	for _, e := range all.Entries() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// names lists the keys of refresh tokens.
func names(t *testing.T, cache json.RawMessage) []string {
	t.Helper()
	var c struct{ RefreshToken map[string]any }
	check(t, json.Unmarshal(cache, &c))
	return slices.Sorted(maps.Keys(c.RefreshToken))
}

// rename gives refresh tokens other keys, and changes nothing else.
func rename(t *testing.T, cache json.RawMessage, other func(string) string) json.RawMessage {
	t.Helper()
	for _, key := range names(t, cache) {
		old, err := json.Marshal(key)
		check(t, err)
		renamed, err := json.Marshal(other(key))
		check(t, err)
		if bytes.Count(cache, old) != 1 {
			t.Fatal("a key is not there once")
		}
		cache = bytes.Replace(cache, old, renamed, 1)
	}
	return cache
}
