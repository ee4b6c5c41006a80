package tokencache

import (
	"slices"
	"strings"
)

// applyRefreshToken stores the refresh token where nothing newer is lost by it.
func (a *applier) applyRefreshToken() {
	if a.grant.RefreshToken == "" {
		return // the one that is stored stays valid (RFC 6749 §6)
	}
	it := a.newItem("RefreshToken")
	it.set(fieldSecret, string(a.grant.RefreshToken))
	it.set(fieldAssertion, a.assertion)
	it.set(fieldFamily, a.grant.Family)
	if a.signIn || a.used == "" {
		a.put(refreshTokens, it)
		a.dropRefreshTokensBut(it)
		return
	}
	stored := false
	for _, old := range a.sections[refreshTokens] {
		if !a.spendable(old) {
			continue
		}
		stored = true
		if sameSecret(Secret(old.text(fieldSecret)), a.used) {
			a.renew(old, it)
			return
		}
	}
	if !stored {
		a.put(refreshTokens, it)
	}
}

// spendable tells whether this writer could have spent the stored refresh token;
// see snapshot.refreshToken. The environment is not compared, because other
// libraries write an alias of the issuer's host.
func (a *applier) spendable(it *item) bool {
	return it.text(fieldSecret) != "" && it.qualifiers() == (qualifiers{}) &&
		strings.EqualFold(it.text(fieldHomeAccount), a.account) &&
		(it.text(fieldClient) == a.clientID || it.text(fieldFamily) == familyID && a.inFamily()) &&
		(assertionHash(it) == a.assertion || assertionHash(it) == "")
}

func (a *applier) inFamily() bool {
	return slices.ContainsFunc(a.sections[appMetadata], func(it *item) bool {
		return it.text(fieldClient) == a.clientID && it.text(fieldFamily) == familyID
	})
}

// renew puts a new token into the place of the stored one, which may be a
// family's or have another environment.
func (a *applier) renew(old, it *item) {
	renewed := &item{}
	for _, name := range [...]string{fieldSecret, fieldCredential, fieldClientInfo, fieldModified, fieldFamily} {
		renewed.setRaw(name, it.raw(name))
	}
	renewed.inherit(old)
	a.replace(refreshTokens, old, renewed)
}

// dropRefreshTokensBut removes the client's other refresh tokens, which other
// libraries may have left under another environment.
func (a *applier) dropRefreshTokensBut(it *item) {
	a.sections[refreshTokens] = slices.DeleteFunc(a.sections[refreshTokens], func(old *item) bool {
		return old != it && a.spendable(old) && old.text(fieldFamily) == "" && assertionHash(old) == a.assertion
	})
}
