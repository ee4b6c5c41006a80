package idp

import (
	"errors"
	"slices"
)

const grantOnBehalfOf = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523 §2.1

// onBehalfOf is Entra ID's on-behalf-of grant: RFC 7523 §2.1 with an access token
// as the assertion and the parameter requested_token_use. A refresh token comes
// with it if offline_access was asked for.
func (s *Server) onBehalfOf(g *grant) *oauthError {
	if e := g.needsSecret(); e != nil {
		return e
	}
	if e := g.parse(); e != nil {
		return e
	}
	if e := g.checkClaims(); e != nil {
		return e
	}
	switch {
	case g.form.Get("assertion") == "":
		return badRequest("invalid_request", "assertion is missing")
	case g.form.Get("requested_token_use") != "on_behalf_of":
		return badRequest("invalid_request", "requested_token_use must be on_behalf_of")
	case len(g.scopes) == 0:
		return badRequest("invalid_request", "scope is missing")
	}
	c, err := s.userAssertion(g, g.form.Get("assertion"))
	if err != nil {
		return invalidAssertion(err)
	}
	offline := slices.Contains(g.scopes, "offline_access") && g.fault != kindNoRefreshToken
	sess, e := s.store.exchange(exchange{
		familyID: c.FamilyID, clientID: g.client.ID, scopes: g.scopes, resource: g.resource, offline: offline,
	})
	if e != nil {
		return e
	}
	g.use(sess)
	if offline {
		g.refresh = s.store.refreshToken(sess.familyID, 0)
	}
	return nil
}

// invalidAssertion is the answer to a bad assertion, with the number that
// Entra ID has for the case (RFC 7523 §3.1).
func invalidAssertion(err error) *oauthError {
	number := 50013
	switch {
	case errors.Is(err, errTokenExpired):
		number = 500133
	case errors.Is(err, errTokenAudience):
		number = 500131
	case errors.Is(err, errTokenRevoked):
		number = 50173
	case errors.Is(err, errTokenApplication):
		number = 7000114
	}
	return invalidGrant(number, err.Error())
}
