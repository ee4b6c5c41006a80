package tokencache

import "strings"

// applyIDToken stores the ID token, if there is one, for the directory that it
// came from.
func (a *applier) applyIDToken() {
	if a.grant.IDToken == "" {
		return
	}
	it := a.newItem("IdToken")
	it.set(fieldSecret, string(a.grant.IDToken))
	it.set(fieldRealm, a.accountRealm())
	a.put(idTokens, it)
}

// applyAccount keeps the Account item, which is what tells the directory that
// the user signed in to. So only a sign-in adds one, or the first grant of a
// partition that has none (on-behalf-of); other grants update the one of their
// directory.
func (a *applier) applyAccount() {
	it := a.newItem("")
	it.set(fieldRealm, a.accountRealm())
	old := a.same(accounts, it)
	first := a.req.Tenant == "" && a.grant.Account.Tenant != "" && len(a.realms(accounts)[strings.ToLower(a.account)]) == 0
	switch {
	case old == nil && !a.signIn && !first:
		return
	case old != nil && a.grant.Account.ID == "":
		return // nothing is known that is not there
	}
	it.set(fieldLocalAccount, a.grant.Account.LocalID)
	it.set(fieldUsername, a.grant.Account.Username)
	it.set(fieldName, a.grant.Account.Name)
	it.set(fieldClientInfo, a.grant.ClientInfo)
	if old == nil || old.raw(fieldAuthority) == nil {
		it.set(fieldAuthority, a.authorityType())
	}
	a.put(accounts, it)
}

func (a *applier) accountRealm() string {
	if tenant := a.grant.Account.Tenant; tenant != "" {
		return tenant
	}
	return a.realm
}

// authorityType is MSAL's name for the kind of server. Only Microsoft Entra ID
// sends a client_info.
func (a *applier) authorityType() string {
	if a.grant.ClientInfo != "" {
		return "MSSTS"
	}
	return "Other"
}

// applyAppMetadata makes sure that the client is known in its environment, with the
// family that it is in. MSAL Go looks for a refresh token only where there is such an
// item, and MSAL Node writes none.
func (a *applier) applyAppMetadata() {
	for _, it := range a.sections[appMetadata] {
		known := a.grant.Family == "" || it.text(fieldFamily) == a.grant.Family
		if known && it.text(fieldClient) == a.clientID && strings.EqualFold(it.text(fieldEnvironment), a.environment) {
			return
		}
	}
	it := &item{}
	it.set(fieldFamily, a.grant.Family)
	it.set(fieldClient, a.clientID)
	it.set(fieldEnvironment, a.environment)
	it.setTime(fieldModified, a.now)
	a.put(appMetadata, it)
}
