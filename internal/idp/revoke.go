package idp

import "net/http"

// revoke is the revocation endpoint (RFC 7009 §2). Revoking any token of a
// family ends the family. Tokens of applications have none; they stay good
// until they expire, as those of Entra ID do.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request, rm *realm) {
	if e := checkForm(r); e != nil {
		writeError(w, r, e)
		return
	}
	client, e := s.authenticate(r, rm)
	if e != nil {
		writeError(w, r, e)
		return
	}
	token := r.PostForm.Get("token")
	if token == "" {
		writeError(w, r, badRequest("invalid_request", "token is missing"))
		return
	}
	// token_type_hint is not needed: the two kinds cannot be mistaken.
	familyID, _, isRefresh := s.store.parseRefreshToken(token)
	owner := client.ID
	if !isRefresh {
		var c accessClaims
		if s.keys.verify(token, accessTokenType, &c) == nil {
			familyID, owner = c.FamilyID, c.ClientID
		}
	}
	switch {
	case familyID == "": // unknown, or of an application
	case owner != client.ID:
		writeError(w, r, badRequest("invalid_grant", "the token was issued to another client"))
		return
	case s.store.revokeFamily(familyID, client.ID):
	case isRefresh:
		writeError(w, r, badRequest("invalid_grant", "the token was issued to another client"))
		return
	default:
		// An API obtained it on behalf of a user, without a refresh token. It
		// ends with the sign-in, which is not the API's to end.
		writeError(w, r, badRequest("unsupported_token_type", "this access token ends with the sign-in that it came from"))
		return
	}
	s.store.count(func(st *Stats) { st.Revocations++ })
	w.WriteHeader(http.StatusOK) // for unknown tokens too (RFC 7009 §2.2)
}
