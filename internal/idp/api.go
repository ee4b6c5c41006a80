package idp

import (
	"net/http"
	"strings"
)

// apiRoutes are the protected API: a resource server in miniature, so that a
// test sees whether a token works where it is meant to.
func (s *Server) apiRoutes(mux *http.ServeMux) {
	handle := func(pattern string, limit int64, h realmHandler) {
		h = s.countedAPI(s.faulted(endpointAPI, h))
		mux.Handle(pattern, s.inTenant(s.plain, limited(limit, h)))
	}
	handle("GET /api/me", maxFormBytes, s.me)
	handle("POST /api/echo", maxEchoBytes, s.echo)
}

func (s *Server) countedAPI(next realmHandler) realmHandler {
	return func(w http.ResponseWriter, r *http.Request, rm *realm) {
		s.store.count(func(st *Stats) { st.APIRequests++ })
		next(w, r, rm)
	}
}

// me says whose token it was called with. The account is "oid.tid", which is
// what MSAL calls the home account ID, whichever issuer the token is from.
func (s *Server) me(w http.ResponseWriter, r *http.Request, _ *realm) {
	c, ok := s.bearer(w, r, DefaultAudience)
	if !ok {
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Account  string   `json:"account"`
		Name     string   `json:"name"`
		Username string   `json:"username"`
		Scopes   []string `json:"scopes"`
	}{c.ObjectID + "." + c.TenantID, c.Name, c.Username, strings.Fields(c.Scopes)})
}

// echo returns the request body, as bytes of no particular type: what a caller
// sends must not become a page of this origin.
func (s *Server) echo(w http.ResponseWriter, r *http.Request, _ *realm) {
	if _, ok := s.bearer(w, r, DefaultAudience); !ok {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	copyBody(w, r)
}

// userinfo is the UserInfo endpoint (OpenID Connect Core §5.3). Access tokens
// of any audience will do, as long as they belong to a user.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request, _ *realm) {
	c, ok := s.bearer(w, r, "")
	if !ok {
		return
	}
	if c.FamilyID == "" {
		e := bearerError(http.StatusForbidden, "insufficient_scope", "the token belongs to an application, not to a user")
		writeError(w, r, e)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"sub": c.Subject, "oid": c.ObjectID, "tid": c.TenantID,
		"name": c.Name, "preferred_username": c.Username,
	})
}

// bearer verifies the access token in the Authorization header, the only place
// where it is looked for (RFC 6750 §2.1), or answers the request.
func (s *Server) bearer(w http.ResponseWriter, r *http.Request, audience string) (*accessClaims, bool) {
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		// RFC 6750 §3.1: no error code for a request without authentication.
		e := &oauthError{status: http.StatusUnauthorized, code: "missing_token", challenge: `Bearer realm="idp"`}
		e.description = "the request has no bearer token"
		writeError(w, r, e)
		return nil, false
	}
	c, err := s.verifyAccess(raw, audience)
	if err != nil {
		writeError(w, r, bearerError(http.StatusUnauthorized, "invalid_token", err.Error()))
		return nil, false
	}
	return c, true
}

// bearerError is an error of RFC 6750 §3. The description is one of this
// package's fixed texts, which have no quotes in them.
func bearerError(status int, code, description string) *oauthError {
	return &oauthError{
		status: status, code: code, description: description,
		challenge: `Bearer error="` + code + `", error_description="` + description + `"`,
	}
}
