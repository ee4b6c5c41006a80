package main

import (
	"fmt"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// entry is a cached token, for programs: what it is for, never the token.
type entry struct {
	Kind     string     `json:"kind"`
	Scopes   []string   `json:"scopes,omitempty"`
	Audience string     `json:"audience,omitempty"`
	CachedAt *time.Time `json:"cached_at,omitempty"`
	Expires  *time.Time `json:"expires_at,omitempty"`
}

func entriesOf(tokens *tokencache.Tokens) []entry {
	list := []entry{}
	for _, e := range tokens.Entries() {
		list = append(list, entry{
			Kind: e.Kind, Scopes: e.Scopes, Audience: e.Audience,
			CachedAt: known(e.CachedAt), Expires: known(e.Expires),
		})
	}
	return list
}

// known leaves out a time that the server did not tell.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// tokenView is a cached token, for people.
type tokenView struct {
	Kind, Class   string
	Scopes        []string
	Audience      string
	Expires, Left string // RFC 3339, and how long from now
	Life, Remains int64  // seconds
}

func viewsOf(tokens *tokencache.Tokens) []tokenView {
	titles := map[string]string{"access": "Access token", "refresh": "Refresh token", "id": "ID token"}
	var list []tokenView
	for _, e := range tokens.Entries() {
		v := tokenView{Kind: titles[e.Kind], Class: e.Kind, Scopes: e.Scopes, Audience: e.Audience}
		if !e.Expires.IsZero() {
			left := max(0, time.Until(e.Expires).Round(time.Second))
			v.Expires, v.Left = e.Expires.UTC().Format(time.RFC3339), countdown(left)
			v.Remains = int64(left.Seconds())
			v.Life = max(1, v.Remains, int64(e.Expires.Sub(e.CachedAt).Round(time.Second).Seconds()))
		}
		list = append(list, v)
	}
	return list
}

// countdown is what the page's script goes on with, second by second.
func countdown(left time.Duration) string {
	if left <= 0 {
		return "expired"
	}
	h, m, s := int(left.Hours()), int(left.Minutes())%60, int(left.Seconds())%60
	if h > 0 {
		return fmt.Sprintf("in %d:%02d:%02d", h, m, s)
	}
	return fmt.Sprintf("in %d:%02d", m, s)
}

// userOf is whose tokens these are; the zero Account if that is not known.
func userOf(tokens *tokencache.Tokens) tokencache.Account {
	for _, account := range tokens.Accounts() {
		return account
	}
	return tokencache.Account{}
}
