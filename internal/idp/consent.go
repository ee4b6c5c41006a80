package idp

import (
	"errors"
	"fmt"
	"slices"
)

// maxConsents bounds what one user has allowed one client. Beyond it, consent is
// good for the request only and then asked for again.
const maxConsents = 1000

// permission is one scope of one API.
type permission struct{ audience, scope string }

func (p permission) String() string { return p.audience + "/" + p.scope }

// permissions are what scopes ask a user to allow: not those of OpenID Connect,
// and others with the audience that a token for them would have.
func permissions(resource string, scopes []string) []permission {
	var ps []permission
	for _, scope := range scopes {
		if isOIDCScope(scope) {
			continue
		}
		audience, short := audienceOf(scope)
		if audience == "" {
			audience = resolveAccess(resource, scopes).audience
		}
		if p := (permission{audience, short}); !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps
}

// Consent remembers that a user allows a client some scopes, as the consent page
// does: the way to consent for an API, which nobody signs in to. It has an effect
// with [Options.Consent] only. The error says what is wrong with a parameter.
func (s *Server) Consent(name, clientID string, scopes ...string) error {
	u, err := parseUser(name)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	if _, ok := s.clients[clientID]; !ok {
		return errors.New("idp: the client is not registered")
	}
	if len(scopes) == 0 || len(scopes) > maxScopes || slices.ContainsFunc(scopes, func(s string) bool { return s == "" || !isScopeToken(s) }) {
		return fmt.Errorf("idp: 1 to %d well-formed scopes are required", maxScopes)
	}
	s.store.consent(u, clientID, permissions("", scopes))
	return nil
}

// WithdrawConsent forgets all that a user has allowed. Access tokens stay good; to
// refresh, a client needs consent again. The error is that of a name that cannot
// be a user's.
func (s *Server) WithdrawConsent(name string) error {
	u, err := parseUser(name)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for id := range s.clients {
		s.store.consents.remove(consentKey(u, id))
	}
	return nil
}

// consentKey is of a user and a client; a user's name has no NUL.
func consentKey(u user, clientID string) string { return u.key + "\x00" + clientID }

func (st *store) consent(u user, clientID string, ps []permission) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.consentLocked(u, clientID, ps)
}

func (st *store) consentLocked(u user, clientID string, ps []permission) {
	key := consentKey(u, clientID)
	allowed, ok := st.consents.get(key)
	if !ok {
		allowed = make(map[permission]bool)
	}
	for _, p := range ps {
		if len(allowed) < maxConsents {
			allowed[p] = true
		}
	}
	st.consents.put(key, allowed)
}

// missing returns what the user has not allowed the client yet.
func (st *store) missing(u user, clientID string, ps []permission) []permission {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.missingLocked(u, clientID, ps)
}

// missingLocked treats .default as Entra ID does: whoever allowed it allowed all
// of an API, and it is allowed to whom anything of the API is.
func (st *store) missingLocked(u user, clientID string, ps []permission) []permission {
	if !st.askConsent {
		return nil
	}
	key := consentKey(u, clientID)
	allowed, _ := st.consents.get(key)
	st.consents.touch(key)
	var missing []permission
	for _, p := range ps {
		ok := allowed[p] || allowed[permission{p.audience, ".default"}] || slices.Contains(st.consented, p)
		if p.scope == ".default" {
			for a := range allowed {
				ok = ok || a.audience == p.audience
			}
		}
		if !ok {
			missing = append(missing, p)
		}
	}
	return missing
}

// checkConsentLocked is the token endpoint's part. A token is for one audience, so
// consent to the other scopes of the request does not matter.
func (st *store) checkConsentLocked(u user, clientID, resource string, scopes []string) *oauthError {
	ps := permissions(resource, resolveAccess(resource, scopes).granted)
	if len(st.missingLocked(u, clientID, ps)) > 0 {
		return consentRequired()
	}
	return nil
}

// checkConsent is for tokens of a sign-in that has just been redeemed.
func (st *store) checkConsent(g *grant) *oauthError {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.checkConsentLocked(g.session.user, g.client.ID, g.resource, g.scopes)
}

// mayRefresh checks consent before a refresh token is spent. What is wrong with
// the token itself is rotate's to say.
func (st *store) mayRefresh(token string, g grant) *oauthError {
	familyID, _, _ := st.parseRefreshToken(token)
	st.mu.Lock()
	defer st.mu.Unlock()
	f, ok := st.families.get(familyID)
	if !ok || f.session.clientID != g.client.ID {
		return nil
	}
	g.use(f.session)
	return st.checkConsentLocked(f.session.user, g.client.ID, g.resource, g.scopes)
}
