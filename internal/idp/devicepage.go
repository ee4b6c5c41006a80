package idp

import (
	"net/http"
)

// devicePage is what the verification page shows (RFC 8628 §3.3).
type devicePage struct {
	UserCode string
	Client   string // who asks, once the code is known
	Username string
	Error    string

	Permissions []permission // that signing in gives the client, with Options.Consent
}

// describe says what the person is about to allow.
func (p *devicePage) describe(s *Server, d device) {
	p.Client = d.session.clientID
	if s.opts.Consent {
		p.Permissions = permissions(d.session.resource, d.session.scopes)
	}
}

// deviceForm shows the verification page. With verification_uri_complete the code
// is filled in and the person compares it with the device's (§3.3.1).
func (s *Server) deviceForm(w http.ResponseWriter, r *http.Request, _ *realm) {
	page := devicePage{UserCode: r.URL.Query().Get("user_code")}
	if page.UserCode != "" {
		d, ok := s.store.waiting(page.UserCode)
		if page.describe(s, d); !ok {
			page.Error = "This code is not known, has expired or was answered already."
		}
	}
	s.pages.device(w, http.StatusOK, page)
}

// deviceSubmit takes the answer. A form on a page of another site cannot give it
// in the person's name.
func (s *Server) deviceSubmit(w http.ResponseWriter, r *http.Request, _ *realm) {
	if http.NewCrossOriginProtection().Check(r) != nil {
		s.pages.message(w, http.StatusForbidden, "Invalid request", "This form is not from this server.")
		return
	}
	if e := checkForm(r); e != nil {
		s.pages.message(w, http.StatusBadRequest, "The form could not be read", e.description)
		return
	}
	page := devicePage{UserCode: r.PostForm.Get("user_code"), Username: r.PostForm.Get("username")}
	d, ok := s.store.waiting(page.UserCode)
	if !ok {
		page.Error = "This code is not known, has expired or was answered already."
		s.pages.device(w, http.StatusBadRequest, page)
		return
	}
	page.describe(s, d)
	if r.PostForm.Get("answer") == "deny" {
		s.deviceAnswered(w, s.store.deny(page.UserCode), "Refused", "The device is not signed in. You can close this page.")
		return
	}
	u, err := parseUser(page.Username)
	if err != nil {
		page.Error = "Enter a name of 1 to 64 printable characters."
		s.pages.device(w, http.StatusBadRequest, page)
		return
	}
	err = s.store.approve(page.UserCode, u, s.startLogin(w, r, u))
	s.deviceAnswered(w, err, "Signed in", "Your device is signed in. You can close this page.")
}

// deviceAnswered says what came of an answer. It can come too late even now, if
// the code was answered twice at the same moment.
func (s *Server) deviceAnswered(w http.ResponseWriter, err error, title, text string) {
	if err != nil {
		s.pages.device(w, http.StatusBadRequest, devicePage{Error: "This code is not known, has expired or was answered already."})
		return
	}
	s.pages.message(w, http.StatusOK, title, text)
}
