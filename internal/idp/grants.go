package idp

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
)

// grant is a token request on its way to an answer. The handlers of the
// grant types fill in what follows form.
type grant struct {
	realm  *realm
	client *Client
	form   url.Values
	fault  string // kind of a fault that changes the answer, or ""

	session  *session // nil for client credentials
	scopes   []string
	resource string
	nonce    string // only in the answer to a code
	refresh  string // the refresh token to return, or ""

	issuedType string // what issued_token_type says, or ""
}

// redeemCode is the authorization code grant (RFC 6749 §4.1.3).
func (s *Server) redeemCode(g *grant) *oauthError {
	// What can be wrong without the code is looked at first, so that a client
	// that mends its request may still use the code.
	if e := g.parse(); e != nil {
		return e
	}
	for _, name := range []string{"code", "redirect_uri", "code_verifier"} {
		if g.form.Get(name) == "" {
			return badRequest("invalid_request", name+" is missing")
		}
	}
	sess, e := s.store.redeem(redemption{
		value: g.form.Get("code"), issuer: g.realm.issuer, clientID: g.client.ID,
		redirectURI: g.form.Get("redirect_uri"), verifier: g.form.Get("code_verifier"),
	})
	if e != nil {
		return e
	}
	g.use(sess)
	g.nonce = sess.nonce
	offline := slices.Contains(g.scopes, "offline_access") || slices.Contains(sess.scopes, "offline_access")
	if offline && g.fault != kindNoRefreshToken {
		g.refresh = s.store.refreshToken(sess.familyID, 0)
	}
	return s.store.checkConsent(g) // the request may name other scopes than the sign-in
}

// refresh is the refresh token grant (RFC 6749 §6) with strict rotation. The
// answer always carries a refresh token, whatever scopes were asked for.
func (s *Server) refresh(g *grant) *oauthError {
	if e := g.parse(); e != nil {
		return e
	}
	if g.form.Get("refresh_token") == "" {
		return badRequest("invalid_request", "refresh_token is missing")
	}
	if e := s.store.mayRefresh(g.form.Get("refresh_token"), *g); e != nil {
		return e
	}
	keep := g.fault == kindNoRefreshToken
	sess, next, e := s.store.rotate(g.form.Get("refresh_token"), g.client.ID, keep)
	if e != nil {
		return e
	}
	g.use(sess)
	if !keep {
		g.refresh = next
	}
	return nil
}

// clientCredentials is the client credentials grant (RFC 6749 §4.4).
func (s *Server) clientCredentials(g *grant) *oauthError {
	if e := g.needsSecret(); e != nil {
		return e
	}
	if e := g.parse(); e != nil {
		return e
	}
	// There is no user whom these scopes could be about.
	g.scopes = slices.DeleteFunc(g.scopes, isOIDCScope)
	return nil
}

// parse reads the parameters that all grant types share.
func (g *grant) parse() *oauthError {
	var e *oauthError
	if g.scopes, e = parseScopes(g.form.Get("scope")); e != nil {
		return e
	}
	g.resource, e = parseResource(g.form)
	return e
}

// use fills what the request left open from the sign-in. A request that names
// scopes but no resource is for another audience than the sign-in's, perhaps.
func (g *grant) use(sess session) {
	g.session = &sess
	if len(g.scopes) > 0 {
		return
	}
	g.scopes = sess.scopes
	if g.resource == "" {
		g.resource = sess.resource
	}
}

// tokenResponse is a successful answer (RFC 6749 §5.1, OpenID Connect Core
// §3.1.3.3) with the members that Entra ID adds.
type tokenResponse struct {
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	ClientInfo   string `json:"client_info,omitempty"`
	IssuedType   string `json:"issued_token_type,omitempty"` // RFC 8693 §2.2.1
}

// issue makes the tokens of a grant.
func (s *Server) issue(g *grant) (*tokenResponse, error) {
	if g.fault == kindFewerScopes {
		g.scopes = firstAPIScope(g.scopes)
	}
	now := time.Now()
	seconds := int64(s.lifetime(g) / time.Second)
	resp := &tokenResponse{
		TokenType: "Bearer", ExpiresIn: seconds, ExtExpiresIn: seconds, RefreshToken: g.refresh, IssuedType: g.issuedType,
	}
	granted := resolveAccess(g.resource, g.scopes).granted
	resp.Scope = strings.Join(slices.DeleteFunc(granted, func(sc string) bool { return sc == "offline_access" }), " ")

	var err error
	if resp.AccessToken, err = sign(s.keys.access, s.accessClaims(g, now)); err != nil {
		return nil, err
	}
	if g.session == nil {
		return resp, nil
	}
	if slices.Contains(g.scopes, "openid") {
		if resp.IDToken, err = sign(s.keys.id, s.idClaims(g, now)); err != nil {
			return nil, err
		}
	}
	if g.realm.entra || g.form.Get("client_info") == "1" {
		resp.ClientInfo = clientInfo(g.session.user.oid(), s.opts.Tenant)
	}
	return resp, nil
}

// common are the claims of a token about u, who may be nil for an application.
func (s *Server) common(g *grant, u *user, now time.Time) claims {
	c := claims{
		Issuer: g.realm.issuer, TenantID: s.opts.Tenant, Version: "2.0",
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: end(now, s.opts.TokenLifetime),
	}
	if u == nil {
		c.ObjectID = nameUUID("application", g.client.ID)
		c.Subject = c.ObjectID
		c.Name = g.client.ID
		return c
	}
	c.ObjectID, c.Subject, c.Username, c.Name = u.oid(), u.subject(g.client.ID), u.username(), u.name
	return c
}

func (s *Server) accessClaims(g *grant, now time.Time) accessClaims {
	c := accessClaims{ID: rand.Text(), ClientID: g.client.ID, Party: g.client.ID}
	if g.session == nil {
		c.claims, c.Kind = s.common(g, nil, now), "app"
	} else {
		c.claims, c.FamilyID = s.common(g, &g.session.user, now), g.session.familyID
	}
	if g.capable() {
		c.Capabilities, c.Expires = []string{capabilityCAE}, end(now, s.lifetime(g))
	}
	a := resolveAccess(g.resource, g.scopes)
	c.Audience, c.Scopes = a.audience, strings.Join(a.scopes, " ")
	return c
}

func (s *Server) idClaims(g *grant, now time.Time) idClaims {
	u, nonce, audience := g.session.user, g.nonce, g.client.ID
	switch g.fault {
	case kindForeignSubject:
		u = user{key: "foreign " + u.key, name: "Foreign " + u.name}
	case kindWrongNonce:
		nonce = rand.Text()
	case kindWrongAudience:
		audience = "another-client"
	}
	c := idClaims{claims: s.common(g, &u, now), Nonce: nonce}
	c.Audience, c.SessionID, c.AuthTime = audience, g.session.sid, g.session.authTime.Unix()
	return c
}

// clientInfo is the member that MSAL makes its home account ID from. It is not
// in a standard; the two fields are the object and the tenant ID.
func clientInfo(oid, tenant string) string {
	b, _ := json.Marshal(map[string]string{"uid": oid, "utid": tenant}) // strings cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}
