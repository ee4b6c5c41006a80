package idp

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlRoutes are for test programs in other processes.
func (s *Server) controlRoutes(mux *http.ServeMux) {
	handle := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, guardControl(h))
	}
	handle("GET /control/stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Stats())
	})
	handle("POST /control/revoke", control([]string{"user"}, func(q url.Values) error {
		_, err := s.RevokeUser(q.Get("user"))
		return err
	}))
	handle("POST /control/logout", control([]string{"user"}, func(q url.Values) error {
		_, err := s.EndSessions(q.Get("user"))
		return err
	}))
	handle("POST /control/device/approve", control([]string{"user_code", "user"}, func(q url.Values) error {
		return s.ApproveDevice(q.Get("user_code"), q.Get("user"))
	}))
	handle("POST /control/device/deny", control([]string{"user_code"}, func(q url.Values) error {
		return s.DenyDevice(q.Get("user_code"))
	}))
	handle("POST /control/consent", control([]string{"user", "client", "scope"}, func(q url.Values) error {
		return s.Consent(q.Get("user"), q.Get("client"), strings.Fields(q.Get("scope"))...)
	}))
	handle("POST /control/withdraw", control([]string{"user"}, func(q url.Values) error {
		return s.WithdrawConsent(q.Get("user"))
	}))
	handle("POST /control/interaction", control([]string{"user", "claims"}, func(q url.Values) error {
		return s.RequireInteraction(q.Get("user"), q.Get("claims"))
	}))
	handle("POST /control/fault", control([]string{"endpoint", "kind", "status", "times", "delay"}, s.controlFault))
}

// guardControl keeps out everybody but programs on this machine.
//
// The peer's address is not enough. A web page that the developer has open can
// make the browser call loopback, directly or under a host name of its own that
// resolves to loopback (DNS rebinding). The first is marked by the browser as
// cross-origin, the second has the page's Host.
func guardControl(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Check lets every GET pass, because a GET should change nothing. The
		// statistics are no other site's business all the same.
		unsafe := r.WithContext(r.Context())
		unsafe.Method = http.MethodPost
		if !isLoopbackHost(r.RemoteAddr) || !isLoopbackHost(r.Host) || crossOrigin.Check(unsafe) != nil {
			e := badRequest("access_denied", "control requests are for programs on this machine")
			e.status = http.StatusForbidden
			writeError(w, r, e)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// control makes a handler of f, which gets the parameters of the query. A
// parameter that is unknown or repeated is refused: a test that misspells one
// should not go on without its fault.
func control(allowed []string, f func(url.Values) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			err = errors.New("the query is malformed")
		}
		for name, values := range q {
			if !slices.Contains(allowed, name) || len(values) > 1 {
				err = fmt.Errorf("parameter %q is unknown or repeated; allowed are %q", name, allowed)
			}
		}
		if err == nil {
			err = f(q)
		}
		if err != nil {
			writeError(w, r, badRequest("invalid_request", err.Error()))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) controlFault(q url.Values) error {
	f := Fault{Endpoint: q.Get("endpoint"), Kind: q.Get("kind"), Times: 1}
	var err error
	if q.Has("status") {
		if f.Status, err = strconv.Atoi(q.Get("status")); err != nil || f.Status == 0 {
			return errors.New("status must be a number between 400 and 599")
		}
	}
	if q.Has("times") {
		if f.Times, err = strconv.Atoi(q.Get("times")); err != nil {
			return errors.New("times must be a number; 0 clears")
		}
	}
	if q.Has("delay") {
		if f.Delay, err = time.ParseDuration(q.Get("delay")); err != nil {
			return errors.New("delay must be a duration such as 300ms")
		}
	}
	if f.Times == 0 { // here 0 clears; only Server.Fault takes it for its default
		if !isFaultEndpoint(f.Endpoint) {
			return f.validate()
		}
		s.ClearFault(f.Endpoint)
		return nil
	}
	return s.Fault(f)
}
