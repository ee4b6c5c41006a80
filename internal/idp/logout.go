package idp

import (
	"net/http"
	"net/url"
)

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout 1.0
// §2). It ends the session that the ID token is from, and that of the browser if
// it is the same user's, tells their clients, and sends the browser back. Tokens
// stay good and nobody is asked first, as with Entra ID.
func (s *Server) logout(w http.ResponseWriter, r *http.Request, _ *realm) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if r.Method == http.MethodPost {
		if checkForm(r) != nil {
			s.pages.message(w, http.StatusBadRequest, "Invalid request", "The form could not be read.")
			return
		}
		params = r.PostForm
	}
	client, hint, ok := s.logoutClient(params)
	if err != nil || !ok {
		s.pages.message(w, http.StatusBadRequest, "Invalid request", "The application that asked to sign you out could not be recognised.")
		return
	}
	uri := params.Get("post_logout_redirect_uri")
	if uri == "" {
		s.endSession(w, r, hint)
		s.pages.message(w, http.StatusOK, "Signed out", "You are signed out. You can close this page.")
		return
	}
	if client == nil || !matchRedirect(client.PostLogoutRedirectURIs, uri) {
		s.pages.message(w, http.StatusBadRequest, "Invalid redirect URI", "The post_logout_redirect_uri is not registered for this application.")
		return
	}
	s.endSession(w, r, hint)
	answer := url.Values{}
	if state := params.Get("state"); state != "" {
		answer.Set("state", state)
	}
	redirectTo(w, uri, answer)
}

// endSession ends the session of the hint, and that of the browser unless it is
// another user's than the hint's.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, hint idClaims) {
	browser := s.browserOf(r)
	ended := s.store.endLogin(hint.SessionID, browser, func(u user) bool {
		return hint.ObjectID == "" || hint.ObjectID == u.oid()
	})
	for _, l := range ended {
		if l.browser == browser {
			s.setCookie(w, "", -1)
		}
	}
	s.notify(noticesOf(ended))
}

// logoutClient finds the client by the ID token or the client_id, and returns the
// claims of the former. The client is nil if the request names none, and not ok if
// what it names is wrong.
func (s *Server) logoutClient(params url.Values) (client *Client, c idClaims, ok bool) {
	id := params.Get("client_id")
	if hint := params.Get("id_token_hint"); hint != "" {
		// Expired tokens are accepted: §2 asks for that, since a user may sign
		// out long after the token was issued.
		if s.keys.verify(hint, "JWT", &c) != nil || !s.isIssuer(c.Issuer) {
			return nil, c, false
		}
		if id != "" && id != c.Audience {
			return nil, c, false
		}
		id = c.Audience
	}
	if id == "" {
		return nil, c, true
	}
	client, ok = s.clients[id]
	return client, c, ok
}
