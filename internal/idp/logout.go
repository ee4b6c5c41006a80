package idp

import (
	"net/http"
	"net/url"
)

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout 1.0
// §2). There is no login session to end and tokens stay good, as with Entra ID;
// what it does is send the browser back.
func (s *Server) logout(w http.ResponseWriter, r *http.Request, _ *realm) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if r.Method == http.MethodPost {
		if checkForm(r) != nil {
			s.pages.message(w, http.StatusBadRequest, "Invalid request", "The form could not be read.")
			return
		}
		params = r.PostForm
	}
	client, ok := s.logoutClient(params)
	if err != nil || !ok {
		s.pages.message(w, http.StatusBadRequest, "Invalid request", "The application that asked to sign you out could not be recognised.")
		return
	}
	uri := params.Get("post_logout_redirect_uri")
	if uri == "" {
		s.pages.message(w, http.StatusOK, "Signed out", "You are signed out. You can close this page.")
		return
	}
	if client == nil || !matchRedirect(client.PostLogoutRedirectURIs, uri) {
		s.pages.message(w, http.StatusBadRequest, "Invalid redirect URI", "The post_logout_redirect_uri is not registered for this application.")
		return
	}
	answer := url.Values{}
	if state := params.Get("state"); state != "" {
		answer.Set("state", state)
	}
	redirectTo(w, uri, answer)
}

// logoutClient finds the client by the ID token or the client_id. It is nil if
// the request names none, and not ok if what it names is wrong.
func (s *Server) logoutClient(params url.Values) (client *Client, ok bool) {
	id := params.Get("client_id")
	if hint := params.Get("id_token_hint"); hint != "" {
		var c idClaims
		// Expired tokens are accepted: §2 asks for that, since a user may sign
		// out long after the token was issued.
		if s.keys.verify(hint, "JWT", &c) != nil || !s.isIssuer(c.Issuer) {
			return nil, false
		}
		if id != "" && id != c.Audience {
			return nil, false
		}
		id = c.Audience
	}
	if id == "" {
		return nil, true
	}
	client, ok = s.clients[id]
	return client, ok
}
