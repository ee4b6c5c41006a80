package idp

import "errors"

var errTokenApplication = errors.New("the token belongs to an application, not to a user")

// userAssertion checks an access token that a client presents in order to go on
// from it: valid here, from the issuer that is asked, about a user, and meant
// for the client itself. The last is what keeps an API from spending tokens that
// it merely got to see.
func (s *Server) userAssertion(g *grant, raw string) (*accessClaims, error) {
	c, err := s.verifyAccess(raw, "")
	switch {
	case err != nil:
		return nil, err
	case c.Issuer != g.realm.issuer:
		return nil, errTokenIssuer
	case !g.client.isAudience(c.Audience):
		return nil, errTokenAudience
	case c.FamilyID == "":
		return nil, errTokenApplication
	}
	return c, nil
}

// checkClaims checks the claims parameter, which Entra ID takes at the token
// endpoint too (OpenID Connect Core §5.5 has it for the authorization endpoint).
func (g *grant) checkClaims() *oauthError {
	if g.form.Has("claims") && !isJSONObject(g.form.Get("claims")) {
		return badRequest("invalid_request", "claims must be a JSON object")
	}
	return nil
}
