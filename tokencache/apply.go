package tokencache

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// change is what one writer has to say: the answer of the authorization server
// and what led to it. It is applied again to whatever another writer left,
// entry by entry, so that both changes are kept.
type change struct {
	grant  Grant
	req    Request
	used   Secret // the refresh token that was spent; empty: none
	signIn bool
	tokens *difference // in place of the grant's tokens; nil: none
}

// writer is who applies a change.
type writer struct {
	clientID    string
	environment string // host, and port if any, of the issuer
	account     string // home account ID; empty: the application
	assertion   string // hash of the incoming token; empty: none
}

var errOtherAccount = errors.New("tokencache: the grant is another account's")

// apply makes the change. A refresh token that came from a refresh replaces only
// the one that was spent for it: if another is stored by now, that one is newer,
// or belongs to a later sign-in. A grant without access token changes the
// refresh token alone. Applying a change twice is applying it once.
func (d *document) apply(c *change, w *writer, now time.Time) error {
	if id := c.grant.Account.ID; id != "" && !strings.EqualFold(id, w.account) {
		return errOtherAccount
	}
	a := applier{document: d, change: c, writer: w, now: now}
	if c.tokens != nil {
		a.applyTokens(c.tokens)
		return nil
	}
	a.realm = a.chooseRealm()
	a.applyRefreshToken()
	if c.grant.AccessToken == "" {
		return nil
	}
	a.applyAccessToken()
	if w.account != "" {
		a.applyIDToken()
		a.applyAccount()
	}
	a.applyAppMetadata()
	return nil
}

// applier is one application of a change.
type applier struct {
	*document
	*change
	*writer
	now   time.Time
	realm string // of the access token
}

// chooseRealm returns the directory that the access token is kept under: where
// find will look for it. A tenant that was asked for may be a domain name,
// where the server's answer has an ID.
func (a *applier) chooseRealm() string {
	account := strings.ToLower(a.account)
	ofAccounts, ofTokens := a.realms(accounts)[account], a.realms(accessTokens)[account]
	switch {
	case a.signIn:
		return a.grant.Account.Tenant
	case a.req.Tenant != "":
		return a.req.Tenant
	case len(ofAccounts) > 0, len(ofTokens) > 0 && a.grant.Account.Tenant == "":
		return homeOf(a.account, ofAccounts, ofTokens)
	}
	return a.grant.Account.Tenant
}

// newItem starts an item of this writer.
func (a *applier) newItem(credential string) *item {
	it := &item{}
	it.set(fieldHomeAccount, a.account)
	it.set(fieldEnvironment, a.environment)
	if credential != "" {
		it.set(fieldCredential, credential)
		it.set(fieldClient, a.clientID)
		it.set(fieldClientInfo, a.grant.ClientInfo)
	}
	it.setTime(fieldModified, a.now)
	return it
}

func (a *applier) applyAccessToken() {
	g := &a.grant
	it := a.newItem("AccessToken")
	it.set(fieldSecret, string(g.AccessToken))
	it.set(fieldRealm, a.realm)
	scopes := g.Scopes
	if scopes == nil {
		scopes = a.req.Scopes
	}
	it.set(fieldTarget, strings.Join(scopes, " "))
	it.set(fieldAssertion, a.assertion)
	if !strings.EqualFold(g.TokenType, bearer) {
		it.set(fieldTokenType, g.TokenType)
	}
	asked := a.req
	asked.CAE = asked.CAE || a.signIn && g.CAE
	if ext := newExt(&asked); ext != nil {
		it.setRaw(fieldExt, ext)
		it.set(fieldCredential, "ATExt")
	}
	expires := g.Expires
	if expires.IsZero() {
		expires = a.now.Add(unknownLifetime)
	}
	it.setTime(fieldCachedAt, a.now)
	it.setTime(fieldExpires, expires)
	it.setTime(fieldExtExpires, expires)
	it.setTime(fieldRefreshOn, g.RefreshOn)
	old := a.same(accessTokens, it)
	if old != nil && old.unix(fieldCachedAt) > a.now.Unix() && old.text(fieldSecret) != string(a.req.Refused) {
		return // another machine got a newer one meanwhile
	}
	a.put(accessTokens, it)
}

// dropAccessTokens removes the access tokens of the writer's client and account.
func (d *document) dropAccessTokens(w *writer) {
	d.sections[accessTokens] = slices.DeleteFunc(d.sections[accessTokens], func(it *item) bool {
		return it.text(fieldClient) == w.clientID && strings.EqualFold(it.text(fieldHomeAccount), w.account)
	})
}

// same returns the stored item with the identity of it, nil if there is none.
func (d *document) same(s section, it *item) *item {
	id := identity(s, it)
	for _, old := range d.sections[s] {
		if identity(s, old) == id {
			return old
		}
	}
	return nil
}

// put stores an item, in the place of the one with its identity.
func (d *document) put(s section, it *item) {
	old := d.same(s, it)
	if old == nil {
		d.sections[s] = append(d.sections[s], it)
		return
	}
	it.inherit(old)
	d.replace(s, old, it)
}

func (d *document) replace(s section, old, it *item) {
	d.sections[s][slices.Index(d.sections[s], old)] = it
}

// inherit takes over the fields of the item that it replaces, other than those
// it has itself and those that described the old token.
func (it *item) inherit(old *item) {
	for _, f := range old.fields {
		if it.raw(f.name) == nil && !describesSecret(f.name) {
			it.setRaw(f.name, f.value)
		}
	}
}

func describesSecret(name string) bool {
	switch name {
	case fieldCachedAt, fieldExpires, fieldExtExpires, oldExtExpires, fieldRefreshOn, fieldTokenType,
		"kid", "key_id", "keyid", "persisted_cache_parameters",
		"cachedAt", "expiresOn", "extendedExpiresOn", "refreshOn", "lastUpdatedAt", "expires_in":
		return true
	}
	return false
}
