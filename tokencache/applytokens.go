package tokencache

import (
	"bytes"
	"slices"
	"strings"
)

// difference is what another library has made of the tokens that it was given. A
// sign-in with what it has in its cache is a difference from nothing.
type difference struct {
	before, after *document
	used          Secret // the refresh token that it had to spend
}

// applyTokens makes the difference, entry by entry, as far as it is of the account and
// of this client. What is not there any more stays, as each library drops what it
// likes; what has expired is dropped with each save.
func (a *applier) applyTokens(d *difference) {
	for _, s := range [...]section{appMetadata, accounts, accessTokens, idTokens} { // the first decides about refresh tokens
		for _, it := range d.after.sections[s] {
			if a.concerns(s, it) && !d.had(s, it) {
				a.putNewer(s, it.clone())
			}
		}
	}
	var family *item
	for _, it := range d.after.sections[refreshTokens] {
		if a.spendable(it) && it.text(fieldFamily) != "" && a.signIn {
			family = it.clone()
			a.put(refreshTokens, family)
		}
	}
	if it := a.newest(d); it != nil && a.signIn {
		it = it.clone()
		a.put(refreshTokens, it)
		a.dropRefreshTokensBut(it)
	} else if family != nil {
		a.dropRefreshTokensBut(family) // what the last sign-in has left may be why there is another
	} else if it != nil && (d.used != "" || !a.refreshable()) {
		merged := *a.change // it may be applied again
		merged.grant = Grant{RefreshToken: Secret(it.text(fieldSecret)), ClientInfo: it.text(fieldClientInfo)}
		merged.used = d.used
		a.change = &merged
		a.applyRefreshToken()
	}
	a.applyAppMetadata()
}

// refreshable tells whether a refresh token is stored.
func (a *applier) refreshable() bool {
	return slices.ContainsFunc(a.sections[refreshTokens], a.spendable)
}

// changes tells whether there is anything to store.
func (d *difference) changes(w *writer) bool {
	for s := range sectionCount {
		for _, it := range d.after.sections[s] {
			if w.concerns(s, it) && !d.had(s, it) {
				return true
			}
		}
	}
	return slices.ContainsFunc(d.after.doubles, func(it *item) bool { return w.concerns(refreshTokens, it) && !d.hadSecret(it) })
}

// newest returns the refresh token that the library has obtained, nil if it has none.
// At a sign-in the client's own is wanted; those of its family are kept beside it.
//
// A library that has a key of its own for it leaves the one that it was given beside
// it, which may have a date where the new one has none.
func (a *applier) newest(d *difference) *item {
	var newest *item
	for _, it := range slices.Concat(d.after.sections[refreshTokens], d.after.doubles) {
		if !a.spendable(it) || d.hadSecret(it) || a.signIn && it.text(fieldFamily) != "" {
			continue
		}
		if newest == nil || modified(it) > modified(newest) {
			newest = it
		}
	}
	return newest
}

// had tells whether the item was there before, as it is now. An access token is what it
// is, however the library writes it: others may have dropped it meanwhile.
func (d *difference) had(s section, it *item) bool {
	old := d.before.same(s, it)
	if s == accessTokens && old != nil {
		return sameSecret(Secret(old.text(fieldSecret)), Secret(it.text(fieldSecret)))
	}
	return old != nil && slices.EqualFunc(old.fields, it.fields, func(a, b field) bool {
		return a.name == b.name && bytes.Equal(a.value, b.value)
	})
}

func (d *difference) hadSecret(it *item) bool {
	return slices.ContainsFunc(slices.Concat(d.before.sections[refreshTokens], d.before.doubles), func(old *item) bool {
		return sameSecret(Secret(old.text(fieldSecret)), Secret(it.text(fieldSecret)))
	})
}

// concerns tells whether an item is of the writer's account and client, and of no
// incoming token.
func (w *writer) concerns(s section, it *item) bool {
	switch {
	case s == appMetadata:
		return it.text(fieldClient) == w.clientID
	case !strings.EqualFold(it.text(fieldHomeAccount), w.account):
		return false
	}
	return s == accounts || it.text(fieldClient) == w.clientID && assertionHash(it) == ""
}

// foreign tells whether an item of another account has come.
func (d *difference) foreign(w *writer) bool {
	for _, s := range [...]section{accessTokens, refreshTokens, idTokens, accounts} {
		for _, it := range d.after.sections[s] {
			if !strings.EqualFold(it.text(fieldHomeAccount), w.account) && !d.had(s, it) {
				return true
			}
		}
	}
	return false
}

// putNewer puts an item in the place of one that is not newer.
func (a *applier) putNewer(s section, it *item) {
	if old := a.same(s, it); old == nil || modified(old) <= modified(it) {
		a.put(s, it)
	}
}

// clone is for who changes the fields.
func (it *item) clone() *item { return &item{key: it.key, fields: slices.Clone(it.fields)} }
