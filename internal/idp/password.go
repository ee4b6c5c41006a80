package idp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"time"
)

const grantPassword = "password" // RFC 6749 §4.3.2

// password is the grant of the resource owner's password credentials (RFC 6749
// §4.3). Nobody is asked anything: a user who would have to do more, say show a
// second factor or consent, has to go to the authorization endpoint.
func (s *Server) password(g *grant) *oauthError {
	if len(s.opts.Passwords) == 0 {
		return badRequest("unsupported_grant_type", "no user of this server has a password")
	}
	if e := g.parse(); e != nil {
		return e
	}
	if e := g.checkClaims(); e != nil {
		return e
	}
	for _, name := range []string{"username", "password"} {
		if g.form.Get(name) == "" {
			return badRequest("invalid_request", name+" is missing")
		}
	}
	u, ok := s.checkPassword(g.form.Get("username"), g.form.Get("password"))
	if !ok {
		return invalidGrant(50126, "the user name or the password is wrong")
	}
	if e := s.store.mayUsePassword(u, g); e != nil {
		if g.realm.entra { // a second factor too; only the suberror tells them apart there
			e.code = "invalid_grant"
		}
		return e
	}
	sess := session{
		familyID: marker + rand.Text(), clientID: g.client.ID, user: u, scopes: g.scopes, resource: g.resource,
		sid: s.store.startLogin("", u).sid, authTime: time.Now(),
	}
	s.store.startFamily(sess)
	g.use(sess)
	if slices.Contains(g.scopes, "offline_access") && g.fault != kindNoRefreshToken {
		g.refresh = s.store.refreshToken(sess.familyID, 0)
	}
	return nil
}

// checkPassword compares hashes, so that the time it takes depends on the length
// of neither password, and does so for users without one too.
func (s *Server) checkPassword(name, password string) (user, bool) {
	u, err := parseUser(name)
	known, ok := s.opts.Passwords[u.key]
	want, got := sha256.Sum256([]byte(known)), sha256.Sum256([]byte(password))
	same := subtle.ConstantTimeCompare(want[:], got[:]) == 1
	return u, same && ok && err == nil
}

// passwordClient finds out whose password grant a request is. MSAL has even a client
// with a secret show nothing. Entra ID refuses that, unless the registration allows
// public client flows.
func (s *Server) passwordClient(r *http.Request, rm *realm) (*Client, *oauthError) {
	client, ok := s.clients[r.PostForm.Get("client_id")]
	shows := r.Header.Get("Authorization") != "" || slices.ContainsFunc(
		[]string{"client_secret", "client_assertion", "client_assertion_type"}, r.PostForm.Has)
	switch {
	case shows || !ok || client.Public:
		return s.authenticate(r, rm)
	case client.PublicPassword:
		return client, nil
	}
	e := invalidClient("")
	e.aadsts, e.description = 7000218, "the client has to authenticate for this grant too"
	return nil, e
}

// mayUsePassword checks whether it takes a user more than the password to sign in.
// What is demanded of the user stays so: no claims in the request meet it.
func (st *store) mayUsePassword(u user, g *grant) *oauthError {
	st.mu.Lock()
	defer st.mu.Unlock()
	if claims, ok := st.demands.get(u.key); ok {
		return interactionRequired(claims)
	}
	return st.checkConsentLocked(u, g.client.ID, g.resource, g.scopes)
}

// startFamily begins what is issued from a sign-in.
func (st *store) startFamily(sess session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.families.put(sess.familyID, &family{session: sess})
	st.stats.SignIns++
}

// passwordsByUser is a copy of [Options.Passwords] by the key of the user. Its
// errors show neither names nor passwords.
func passwordsByUser(passwords map[string]string) (map[string]string, error) {
	byKey := make(map[string]string, len(passwords))
	for name, password := range passwords {
		u, err := parseUser(name)
		if err != nil {
			return nil, errors.New("idp: Passwords: " + err.Error())
		}
		if _, ok := byKey[u.key]; ok {
			return nil, errors.New("idp: Passwords has two for one user")
		}
		if password == "" {
			return nil, errors.New("idp: Passwords has an empty one")
		}
		byKey[u.key] = password
	}
	return byKey, nil
}
