package idp

import (
	"net/url"
	"slices"
)

const (
	grantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 §2.1

	// RFC 8693 §3. An access token of this server is a JWT too.
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// tokenExchange is the token exchange grant (RFC 8693), for impersonation: the
// token is about the user, and the client that asked is its azp. Who may exchange
// what is as with onBehalfOf. There is never a refresh token (§2.2.1 advises
// against one) nor an ID token.
//
// Here a bad subject token is invalid_request and not invalid_grant (§2.2.2).
func (s *Server) tokenExchange(g *grant) *oauthError {
	if e := g.needsSecret(); e != nil {
		return e
	}
	if e := g.parse(); e != nil {
		return e
	}
	if e := checkExchange(g.form); e != nil {
		return e
	}
	audience := g.form.Get("audience")
	if audience != "" && g.resource != "" && audience != g.resource {
		return badRequest("invalid_target", "audience and resource differ, and a token has one audience")
	}
	if audience != "" {
		g.resource = audience
	}
	c, err := s.userAssertion(g, g.form.Get("subject_token"))
	if err != nil {
		return badRequest("invalid_request", err.Error())
	}
	g.scopes = slices.DeleteFunc(g.scopes, isOIDCScope)
	sess, e := s.store.exchange(exchange{
		familyID: c.FamilyID, clientID: g.client.ID, scopes: g.scopes, resource: g.resource,
	})
	if e != nil && e.code == "invalid_grant" {
		return badRequest("invalid_request", e.description)
	}
	if e != nil {
		return e
	}
	g.session = &sess
	g.issuedType = typeAccessToken
	if g.form.Get("requested_token_type") == typeJWT {
		g.issuedType = typeJWT
	}
	return nil
}

// checkExchange checks the parameters of RFC 8693 §2.1 other than the subject
// token itself, resource and scope.
func checkExchange(form url.Values) *oauthError {
	requested := form.Get("requested_token_type")
	switch {
	case form.Has("actor_token") || form.Has("actor_token_type"):
		return badRequest("invalid_request", "actor tokens are not supported")
	case form.Get("subject_token") == "":
		return badRequest("invalid_request", "subject_token is missing")
	case !isExchangeable(form.Get("subject_token_type")):
		return badRequest("invalid_request", "subject_token_type must be that of an access token or of a JWT")
	case requested != "" && !isExchangeable(requested):
		return badRequest("invalid_request", "requested_token_type must be that of an access token or of a JWT")
	case !isVisible(form.Get("audience")):
		return badRequest("invalid_target", "audience must be at most 2048 printable ASCII characters")
	}
	return nil
}

func isExchangeable(tokenType string) bool {
	return tokenType == typeAccessToken || tokenType == typeJWT
}
