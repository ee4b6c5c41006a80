package idp

import (
	"crypto/rand"
	"net/http"
	"net/url"
)

// login is the session of one browser at this server: which clients got an ID
// token with its sid, and so have to hear when it ends (OpenID Connect
// Back-Channel Logout 1.0 §2.1). It signs nobody in; the login form does.
type login struct {
	sid     string
	user    user
	browser string // value of the cookie
	parties map[party]bool
}

// party is a client of a login, at the issuer that its ID tokens are from.
type party struct{ issuer, clientID string }

// cookieName has the port in it, because cookies ignore ports and two servers on
// one machine would take them from each other.
func (s *Server) cookieName() string {
	u, _ := url.Parse(s.url) // made by Listen
	return "idp-session-" + u.Port()
}

// browserOf returns the value of the browser's cookie, or "".
func (s *Server) browserOf(r *http.Request) string {
	if c, err := r.Cookie(s.cookieName()); err == nil {
		return c.Value
	}
	return ""
}

// startLogin returns the sid for a sign-in of u: that of the browser's session, or
// of a new one if it has none or somebody else's.
func (s *Server) startLogin(w http.ResponseWriter, r *http.Request, u user) string {
	l := s.store.startLogin(s.browserOf(r), u)
	s.setCookie(w, l.browser, 0)
	return l.sid
}

func (s *Server) setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure would keep it from a server on http
		Name: s.cookieName(), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.opts.TLS, SameSite: http.SameSiteLaxMode,
	})
}

// startLogin never adopts a cookie that it did not issue.
func (st *store) startLogin(browser string, u user) *login {
	st.mu.Lock()
	defer st.mu.Unlock()
	if sid, ok := st.browsers.get(browser); ok {
		if l, ok := st.logins.get(sid); ok && l.user.key == u.key {
			st.logins.touch(sid)
			st.browsers.touch(browser)
			return l
		}
	}
	l := &login{sid: nameUUID("sid", rand.Text()), user: u, browser: marker + rand.Text(), parties: make(map[party]bool)}
	st.logins.put(l.sid, l)
	st.browsers.put(l.browser, l.sid)
	return l
}

// useLogin notes that tokens were issued for a login, and to whom if there was an
// ID token among them. A login that has ended stays so.
func (st *store) useLogin(sid string, p party, idToken bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	l, ok := st.logins.get(sid)
	if !ok {
		return
	}
	st.logins.touch(sid)
	st.browsers.touch(l.browser)
	if idToken {
		l.parties[p] = true
	}
}

// endLogin ends the login with this sid, and that of the browser if it is the same
// user's or no sid is given. It returns those that ended.
func (st *store) endLogin(sid, browser string, is func(user) bool) []*login {
	st.mu.Lock()
	defer st.mu.Unlock()
	var ended []*login
	if l, ok := st.logins.get(sid); ok {
		ended = append(ended, st.forgetLocked(l))
	}
	if other, ok := st.browsers.get(browser); ok {
		if l, ok := st.logins.get(other); ok && is(l.user) {
			ended = append(ended, st.forgetLocked(l))
		}
	}
	return ended
}

// endLogins ends every login of a user.
func (st *store) endLogins(u user) []*login {
	st.mu.Lock()
	defer st.mu.Unlock()
	var ended []*login
	st.logins.each(func(l *login) {
		if l.user.key == u.key {
			ended = append(ended, l)
		}
	})
	for _, l := range ended {
		st.forgetLocked(l)
	}
	return ended
}

// forgetLocked returns l, which from now on nobody changes.
func (st *store) forgetLocked(l *login) *login {
	st.logins.remove(l.sid)
	st.browsers.remove(l.browser)
	return l
}
